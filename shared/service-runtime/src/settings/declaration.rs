//! One setting as it is declared.

/// One setting as it is declared in the code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declaration {
    /// The variable's name; a raw number's unit is its last word.
    pub name: &'static str,
    /// The default as one would write it; empty when unset by default.
    pub default: String,
    /// What is allowed, such as `a whole number from 1 to 10`.
    pub allowed: String,
    /// One sentence of meaning.
    pub meaning: &'static str,
}
