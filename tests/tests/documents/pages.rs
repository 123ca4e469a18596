//! The Markdown pages of the repository, and what stands in them.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders that have pages.
const FOLDERS: [&str; 7] =
    [".", "docs", "tests", "bench", "deploy/kubernetes", "deploy/observability", ".github"];

/// One Markdown page.
#[derive(Debug)]
pub(crate) struct Page {
    /// Its path from the repository's root.
    pub(crate) name: String,
    pub(crate) text: String,
}

impl Page {
    /// Reads the page at a path from the repository's root.
    pub(crate) fn of(name: &str) -> Self {
        let text = fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        Self { name: name.to_owned(), text }
    }

    /// Returns every page.
    pub(crate) fn all() -> Vec<Self> {
        let mut names = Vec::new();
        for folder in FOLDERS {
            let Ok(entries) = fs::read_dir(root().join(folder)) else { continue };
            let files = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let pages = files.filter(|file| file.ends_with(".md"));
            names.extend(pages.map(|file| match folder {
                "." => file,
                folder => format!("{folder}/{file}"),
            }));
        }
        names.sort();
        assert!(names.len() > 10, "{names:?}");
        names.iter().map(|name| Self::of(name)).collect()
    }

    /// Returns the folder of the page.
    pub(crate) fn folder(&self) -> PathBuf {
        root().join(&self.name).parent().unwrap().to_owned()
    }

    /// Returns the lines outside fenced blocks.
    pub(crate) fn prose(&self) -> impl Iterator<Item = &str> {
        self.lines().filter_map(|(fence, line)| fence.is_none().then_some(line))
    }

    /// Returns the lines of fenced blocks in this language; a line that ends in `\` continues in the next one.
    pub(crate) fn code(&self, language: &str) -> Vec<String> {
        let lines = self.lines().filter(|(fence, _)| *fence == Some(language));
        let text: Vec<&str> = lines.map(|(_, line)| line).collect();
        text.join("\n").replace("\\\n", " ").lines().map(str::to_owned).collect()
    }

    /// Returns the code spans of the prose.
    pub(crate) fn spans(&self) -> Vec<String> {
        let prose: Vec<&str> = self.prose().collect();
        // A blank line ends a span that nothing closes.
        let paragraphs = prose.join("\n");
        let spans = paragraphs.split("\n\n").flat_map(|text| text.split('`').skip(1).step_by(2));
        spans.map(|span| span.replace('\n', " ")).collect()
    }

    /// Returns the targets of its links and images.
    pub(crate) fn links(&self) -> Vec<&str> {
        let ends = self.prose().flat_map(|line| line.split("](").skip(1));
        ends.filter_map(|text| text.split_once(')')).map(|(target, _)| target).collect()
    }

    /// Returns the anchors of its headings.
    pub(crate) fn anchors(&self) -> Vec<String> {
        let headings = self.prose().filter(|line| line.starts_with('#'));
        headings
            .map(|line| {
                let title = line.trim_start_matches('#').trim().to_lowercase();
                let kept = title.chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c));
                kept.collect::<String>().replace(' ', "-")
            })
            .collect()
    }

    /// Returns every line with the language of the fenced block that it is in.
    fn lines(&self) -> impl Iterator<Item = (Option<&str>, &str)> {
        let mut fence = None;
        self.text.lines().filter_map(move |line| {
            match (line.trim_start().strip_prefix("```"), fence) {
                (Some(language), None) => {
                    fence = Some(language);
                    None
                }
                (Some(_), Some(_)) => {
                    fence = None;
                    None
                }
                (None, fence) => Some((fence, line)),
            }
        })
    }
}

/// Returns the repository's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}
