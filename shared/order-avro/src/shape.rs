//! The binary layout of a schema's data.
//!
//! Each writer's schema is compiled once. Names serve only to find types within the schema, and the fields of an order, so
//! writers may choose all other names freely.

use std::{collections::BTreeMap, fmt};

use crate::{
    DecodeError,
    datum::{Datum, mismatch},
    schema_text::{Json, Key},
};

/// The deepest nesting of values in skipped fields.
const SKIPPED_DEPTH_MAX: u32 = 64;

/// The most values without bytes in a block of an array: an array of nulls can claim any number.
const NOTHINGS_MAX: u64 = 100_000;

/// The layout of a value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    /// No bytes: null, and types of nulls only.
    Nothing,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    /// Bytes that are not text.
    Decimal,
    String,
    Fixed(u32),
    Enum(u32),
    Array(Id),
    Map(Id),
    Union(Span),
    Record(Span),
    /// An enclosing record.
    Within(u32),
}

/// The index of a shape in [`Shapes::members`].
pub(crate) type Id = u32;

/// Consecutive indexes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    start: u32,
    length: u32,
}

/// A field of a record, or a type of a union, an array, a map.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    pub(crate) role: Role,
    pub(crate) shape: Shape,
}

/// The field of an order that a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    OrderId,
    Product,
    Price,
    Other,
}

/// The shapes of one schema.
#[derive(Debug)]
pub(crate) struct Shapes {
    members: Vec<Member>,
    /// The records that refer to themselves.
    recursive: Vec<Shape>,
    pub(crate) root: Shape,
}

impl Shapes {
    /// Compiles a schema after the schemas that it refers to.
    ///
    /// # Errors
    /// The reason why the schema is invalid.
    pub(crate) fn compile(text: &str, references: &[&str]) -> Result<Self, String> {
        let mut compiler = Compiler::default();
        for reference in references {
            compiler.shape(&Json::parse(reference)?, "")?;
        }
        let root = compiler.shape(&Json::parse(text)?, "")?;
        let Compiler { mut members, mut recursive, .. } = compiler;
        members.shrink_to_fit();
        recursive.shrink_to_fit();
        Ok(Self { members, recursive, root })
    }

    /// Returns the approximate memory of the shapes in bytes.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.members.len() * size_of::<Member>()
            + self.recursive.len() * size_of::<Shape>()
    }

    #[inline]
    pub(crate) fn members(&self, span: Span) -> &[Member] {
        let Some(members) = self.members.get(index(span.start)..) else { return &[] };
        members.get(..index(span.length)).unwrap_or_default()
    }

    /// Returns the shape of the next value; for a union, the shape of the type that the datum names.
    pub(crate) fn written(
        &self,
        shape: Shape,
        datum: &mut Datum<'_>,
    ) -> Result<Shape, DecodeError> {
        if let Shape::Union(types) = shape { self.branch(types, datum) } else { Ok(shape) }
    }

    fn branch(&self, union: Span, datum: &mut Datum<'_>) -> Result<Shape, DecodeError> {
        let branch = datum.long()?;
        let member = usize::try_from(branch).ok().and_then(|at| self.members(union).get(at));
        let length = union.length;
        member
            .map(|member| member.shape)
            .ok_or_else(|| mismatch(format!("a union of {length} types has no type {branch}")))
    }

    /// Skips a value.
    ///
    /// Every shape other than `Nothing` takes at least one byte, so that the length of the datum bounds the work.
    pub(crate) fn skip(&self, shape: Shape, datum: &mut Datum<'_>) -> Result<(), DecodeError> {
        self.skip_within(shape, datum, SKIPPED_DEPTH_MAX)
    }

    fn skip_within(
        &self,
        shape: Shape,
        datum: &mut Datum<'_>,
        depth_left: u32,
    ) -> Result<(), DecodeError> {
        let deeper = || {
            let too_deep = || format!("a value is nested more than {SKIPPED_DEPTH_MAX} deep");
            depth_left.checked_sub(1).ok_or_else(|| mismatch(too_deep()))
        };
        match shape {
            Shape::Nothing => Ok(()),
            Shape::Boolean => datum.boolean(),
            Shape::Int => datum.int().map(drop),
            Shape::Long => datum.long().map(drop),
            Shape::Float => datum.take(4).map(drop),
            Shape::Double => datum.take(8).map(drop),
            Shape::Bytes | Shape::Decimal | Shape::String => datum.bytes().map(drop),
            Shape::Fixed(size) => datum.take(index(size)).map(drop),
            Shape::Enum(symbols) => match datum.long()? {
                symbol if (0..i64::from(symbols)).contains(&symbol) => Ok(()),
                symbol => {
                    Err(mismatch(format!("an enum of {symbols} symbols has no symbol {symbol}")))
                }
            },
            Shape::Array(items) | Shape::Map(items) => self.skip_blocks(items, datum, deeper()?),
            Shape::Union(types) => {
                let shape = self.branch(types, datum)?;
                self.skip_within(shape, datum, deeper()?)
            }
            Shape::Record(fields) => {
                let depth_left = deeper()?;
                let mut fields = self.members(fields).iter();
                fields.try_for_each(|field| self.skip_within(field.shape, datum, depth_left))
            }
            Shape::Within(record) => self.skip_within(self.record(record), datum, depth_left),
        }
    }

    /// Skips the blocks of an array or a map.
    fn skip_blocks(
        &self,
        items: Id,
        datum: &mut Datum<'_>,
        depth_left: u32,
    ) -> Result<(), DecodeError> {
        let shape = self.members.get(index(items)).map_or(Shape::Nothing, |member| member.shape);
        loop {
            match datum.block()? {
                (0, _) => return Ok(()),
                (_, Some(bytes)) => drop(datum.take(bytes)?),
                (count, None) if matches!(shape, Shape::Nothing) => {
                    if count > NOTHINGS_MAX {
                        return Err(mismatch("an array holds too many values without bytes"));
                    }
                }
                (count, None) => {
                    for _ in 0..count {
                        self.skip_within(shape, datum, depth_left)?;
                    }
                }
            }
        }
    }

    /// Returns the enclosing record that a shape refers to.
    pub(crate) fn record(&self, record: u32) -> Shape {
        self.recursive.get(index(record)).copied().unwrap_or(Shape::Nothing)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "null",
            Self::Boolean => "a boolean",
            Self::Int => "an int",
            Self::Long => "a long",
            Self::Float => "a float",
            Self::Double => "a double",
            Self::Bytes => "bytes",
            Self::Decimal => "a decimal",
            Self::String => "a string",
            Self::Fixed(_) => "a fixed",
            Self::Enum(_) => "an enum",
            Self::Array(_) => "an array",
            Self::Map(_) => "a map",
            Self::Union(_) => "a union",
            Self::Record(_) | Self::Within(_) => "a record",
        })
    }
}

#[derive(Default)]
struct Compiler {
    members: Vec<Member>,
    recursive: Vec<Shape>,
    /// The shapes by full name.
    names: BTreeMap<String, Shape>,
}

/// The full name of a type, and the namespace for the types within it.
struct Named {
    full_name: Option<String>,
    namespace: String,
}

impl Compiler {
    fn shape(&mut self, json: &Json<'_>, namespace: &str) -> Result<Shape, String> {
        match json {
            Json::Text(name) => self.named(name, namespace),
            Json::List(types) => {
                let members = types.iter().map(|one| self.shape(one, namespace).map(other));
                let members = members.collect::<Result<Vec<_>, _>>()?;
                Ok(Shape::Union(self.add(&members)?))
            }
            Json::Object(_) => self.described(json, namespace),
            Json::Number(_) | Json::Other => {
                Err("a type is neither a name, a list nor an object".into())
            }
        }
    }

    /// Returns the shape of a type from its JSON object.
    fn described(&mut self, json: &Json<'_>, namespace: &str) -> Result<Shape, String> {
        let described = json.attribute(Key::Type).ok_or(r#"a type has no attribute "type""#)?;
        let part = |what: &str, key: Key, name: &str| {
            json.attribute(key).ok_or_else(|| format!("{what} has no {name:?}"))
        };
        match described.text() {
            Some("record" | "error") => {
                let fields = part("a record", Key::Fields, "fields")?;
                let fields = fields.list().ok_or("a record's \"fields\" are no list")?;
                self.record(&Named::of(json, namespace), fields)
            }
            Some("enum") => {
                let symbols = part("an enum", Key::Symbols, "symbols")?;
                let symbols = symbols.list().ok_or("an enum's \"symbols\" are no list")?;
                self.define(&Named::of(json, namespace), Shape::Enum(number(symbols.len())?))
            }
            Some("fixed") => {
                let &Json::Number(size) = part("a fixed", Key::Size, "size")? else {
                    return Err("a fixed's \"size\" is no number of bytes".into());
                };
                // No value holds more.
                let size = u32::try_from(size).unwrap_or(u32::MAX);
                let shape = if size == 0 { Shape::Nothing } else { Shape::Fixed(size) };
                self.define(&Named::of(json, namespace), shape)
            }
            Some("array") => {
                let items = self.shape(part("an array", Key::Items, "items")?, namespace)?;
                Ok(Shape::Array(self.add(&[other(items)])?.start))
            }
            Some("map") => {
                // An entry has the layout of a record of its key and its value.
                let values = self.shape(part("a map", Key::Values, "values")?, namespace)?;
                let entry = Shape::Record(self.add(&[other(Shape::String), other(values)])?);
                Ok(Shape::Map(self.add(&[other(entry)])?.start))
            }
            _ => {
                let logical_type = json.attribute(Key::LogicalType).and_then(Json::text);
                match (self.shape(described, namespace)?, logical_type) {
                    (Shape::Bytes, Some("decimal" | "big-decimal")) => Ok(Shape::Decimal),
                    (shape, _) => Ok(shape),
                }
            }
        }
    }

    fn record(&mut self, named: &Named, fields: &[Json<'_>]) -> Result<Shape, String> {
        let at = self.recursive.len();
        self.define(named, Shape::Within(number(at)?))?;
        self.recursive.push(Shape::Nothing);
        let mut members = Vec::new();
        for field in fields {
            let name = field.attribute(Key::Name).and_then(Json::text).unwrap_or_default();
            let shape = match field.attribute(Key::Type) {
                Some(described) => self.shape(described, &named.namespace),
                None => Err("it has no attribute \"type\"".into()),
            };
            let shape = shape.map_err(|error| format!("field {name}: {error}"))?;
            members.push(Member { role: Role::of(name), shape });
        }
        let is_nothing = |member: &Member| matches!(member.shape, Shape::Nothing);
        let record = if members.iter().all(is_nothing) {
            Shape::Nothing
        } else {
            // Fields without bytes matter only if they are fields of an order.
            members.retain(|member| (member.role != Role::Other) || !is_nothing(member));
            Shape::Record(self.add(&members)?)
        };
        self.recursive[at] = record;
        if let Some(name) = &named.full_name {
            self.names.insert(name.clone(), record);
        }
        Ok(record)
    }

    /// Registers a type under its name, if any.
    fn define(&mut self, named: &Named, shape: Shape) -> Result<Shape, String> {
        if let Some(name) = &named.full_name
            && self.names.insert(name.clone(), shape).is_some()
        {
            return Err(format!("the type {name:?} is defined twice"));
        }
        Ok(shape)
    }

    /// Returns the type of a name: a primitive type, or a type defined before.
    fn named(&self, name: &str, namespace: &str) -> Result<Shape, String> {
        Ok(match name {
            "null" => Shape::Nothing,
            "boolean" => Shape::Boolean,
            "int" => Shape::Int,
            "long" => Shape::Long,
            "float" => Shape::Float,
            "double" => Shape::Double,
            "bytes" => Shape::Bytes,
            "string" => Shape::String,
            name => {
                let qualified = self.names.get(&full_name(name, namespace));
                // Some libraries omit the null namespace within another namespace.
                let shape = qualified.or_else(|| self.names.get(name));
                *shape.ok_or_else(|| format!("the type {name:?} is not defined"))?
            }
        })
    }

    fn add(&mut self, members: &[Member]) -> Result<Span, String> {
        let start = number(self.members.len())?;
        self.members.extend(members);
        Ok(Span { start, length: number(members.len())? })
    }
}

impl Named {
    fn of(json: &Json<'_>, around: &str) -> Self {
        let namespace = json.attribute(Key::Namespace).and_then(Json::text).unwrap_or(around);
        let name = json.attribute(Key::Name).and_then(Json::text);
        let full_name = name.map(|name| full_name(name, namespace));
        let namespace = match &full_name {
            Some(name) => name.rsplit_once('.').map_or("", |(namespace, _)| namespace),
            None => namespace,
        };
        Self { namespace: namespace.to_owned(), full_name }
    }
}

impl Role {
    fn of(field: &str) -> Self {
        match field {
            "orderId" => Self::OrderId,
            "product" => Self::Product,
            "price" => Self::Price,
            _ => Self::Other,
        }
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() {
        name.to_owned()
    } else {
        format!("{namespace}.{name}")
    }
}

fn other(shape: Shape) -> Member {
    Member { role: Role::Other, shape }
}

fn number(count: usize) -> Result<u32, String> {
    u32::try_from(count).map_err(|_| "it has too many types".into())
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
