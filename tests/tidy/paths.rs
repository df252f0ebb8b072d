//! The paths that a file names, with `use` groups taken apart and `crate`, `self` and `super` resolved.

use super::lexer::Token;

/// One path and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Named<'a> {
    /// As written, a group taken apart: `a::{b, c::*}` gives `a::b` and `a::c::*`.
    pub(crate) segments: Vec<&'a str>,
    /// The module in which it stands, from the crate root, inline modules included.
    pub(crate) module: Vec<&'a str>,
    pub(crate) line: usize,
}

impl Named<'_> {
    /// The path from the crate root; `None` when it starts at another crate or at a name in scope.
    pub(crate) fn rooted(&self) -> Option<Vec<&str>> {
        let (first, mut rest) = self.segments.split_first()?;
        let mut path = match *first {
            "crate" => Vec::new(),
            "self" => self.module.clone(),
            "super" => self.module[..self.module.len().saturating_sub(1)].to_vec(),
            _ => return None,
        };
        while let Some(("super", after)) = rest.split_first().map(|(first, after)| (*first, after)) {
            path.pop();
            rest = after;
        }
        path.extend(rest.iter().filter(|segment| **segment != "self"));
        Some(path)
    }

    /// Whether it stands in test code: a module or a file named `tests`.
    pub(crate) fn in_tests(&self) -> bool {
        self.module.contains(&"tests")
    }
}

/// The module that a file below `src` holds; empty for the crate root.
pub(crate) fn module_of(path: &str) -> Vec<&str> {
    let inner = path.strip_prefix("src/").unwrap_or(path).trim_end_matches(".rs");
    let mut module: Vec<&str> = inner.split('/').collect();
    if matches!(module.last(), Some(&"mod" | &"lib")) {
        module.pop();
    }
    module
}

/// For each token, the inline modules around it, below the module of the file.
pub(crate) fn modules<'a>(path: &'a str, tokens: &[Token<'a>]) -> Vec<Vec<&'a str>> {
    let mut module = module_of(path);
    let mut open: Vec<usize> = Vec::new();
    let mut depth = 0_usize;
    let mut around = Vec::with_capacity(tokens.len());
    for (at, token) in tokens.iter().enumerate() {
        match token.text {
            "{" => {
                depth += 1;
                if at >= 2 && tokens[at - 2].text == "mod" {
                    module.push(tokens[at - 1].text);
                    open.push(depth);
                }
            }
            "}" => {
                if open.last() == Some(&depth) {
                    open.pop();
                    module.pop();
                }
                depth = depth.saturating_sub(1);
            }
            _ => {}
        }
        around.push(module.clone());
    }
    around
}

/// Every path with two or more segments, and every single name after `use`.
pub(crate) fn paths<'a>(path: &'a str, tokens: &[Token<'a>]) -> Vec<Named<'a>> {
    let modules = modules(path, tokens);
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let before = at.checked_sub(1).map_or("", text);
        let continues = before == "::" && at >= 2 && (tokens[at - 2].is_name() || text(at - 2) == ">");
        let starts = tokens[at].is_name() && !continues && (text(at + 1) == "::" || before == "use");
        if !starts {
            at += 1;
            continue;
        }
        let mut segments = Vec::new();
        let next = tree(tokens, at, &[], &mut segments);
        let module = &modules[at];
        found.extend(segments.into_iter().map(|(segments, line)| Named {
            segments,
            module: module.clone(),
            line,
        }));
        at = next;
    }
    found
}

/// Reads one path tree at `at`, appends its paths to `found` and returns where it ends.
fn tree<'a>(
    tokens: &[Token<'a>],
    mut at: usize,
    prefix: &[&'a str],
    found: &mut Vec<(Vec<&'a str>, usize)>,
) -> usize {
    let mut path = prefix.to_vec();
    while let Some(token) = tokens.get(at) {
        if token.text == "{" {
            at += 1;
            while tokens.get(at).is_some_and(|token| token.text != "}") {
                at = tree(tokens, at, &path, found);
                while tokens.get(at).is_some_and(|token| !matches!(token.text, "," | "}")) {
                    at += 1;
                }
                at += usize::from(tokens.get(at).is_some_and(|token| token.text == ","));
            }
            return at + 1;
        }
        path.push(token.text);
        at += 1;
        let more = tokens.get(at).is_some_and(|token| token.text == "::")
            && tokens.get(at + 1).is_some_and(|next| next.is_name() || matches!(next.text, "{" | "*"));
        if token.text == "*" || !more {
            found.push((path, token.line));
            return at;
        }
        at += 1;
    }
    at
}
