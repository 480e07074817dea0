//! A Rust file as the rules see it: tokens, comments, functions, and which parts are tests.

use std::ops::Range;

use crate::lexer::{self, Comment, Token};

/// One `.rs` file.
#[derive(Debug)]
pub(crate) struct Source {
    /// Relative to the root, with forward slashes.
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) tokens: Vec<Token>,
    pub(crate) comments: Vec<Comment>,
    test_ranges: Vec<Range<usize>>,
}

/// A function that has a body.
#[derive(Debug)]
pub(crate) struct Function<'a> {
    pub(crate) name: &'a str,
    /// Where `fn` stands.
    pub(crate) line: usize,
    /// From `fn` to the closing brace, inclusive.
    pub(crate) lines: usize,
    /// Tokens of the attributes in front of it.
    pub(crate) attributes: &'a [Token],
    /// Tokens between its braces.
    pub(crate) body: &'a [Token],
}

impl Source {
    /// Splits the text of a file.
    pub(crate) fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        let (path, text) = (path.into(), text.into());
        let (tokens, comments) = lexer::split(&text);
        let test_ranges = test_ranges(&path, &tokens);
        Self { path, text, tokens, comments, test_ranges }
    }

    /// Whether the token at this index is compiled for tests only.
    pub(crate) fn is_test(&self, index: usize) -> bool {
        self.test_ranges.iter().any(|range| range.contains(&index))
    }

    /// Where this sequence of words and marks, parted by spaces, occurs: index of its first token.
    pub(crate) fn find(&self, sequence: &str) -> Vec<usize> {
        let sequence: Vec<&str> = sequence.split(' ').collect();
        let windows = self.tokens.windows(sequence.len()).enumerate();
        windows.filter(|(_, window)| is_sequence(window, &sequence)).map(|(index, _)| index).collect()
    }

    /// The line of the token at this index.
    pub(crate) fn line(&self, index: usize) -> usize {
        self.tokens.get(index).map_or(1, |token| token.line)
    }

    /// Every function with a body, also nested and in macros, in order.
    pub(crate) fn functions(&self) -> Vec<Function<'_>> {
        let starts = self.tokens.iter().enumerate().filter(|(_, token)| token.is("fn"));
        starts.filter_map(|(start, _)| function(&self.tokens, start)).collect()
    }
}

/// Whether any part of the tokens is this sequence of words and marks, parted by spaces.
pub(crate) fn contains(tokens: &[Token], sequence: &str) -> bool {
    let sequence: Vec<&str> = sequence.split(' ').collect();
    tokens.windows(sequence.len()).any(|window| is_sequence(window, &sequence))
}

/// The index just after the bracket that closes the one at `open`; the end if it is never closed.
pub(crate) fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0usize;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        if ["(", "[", "{"].iter().any(|bracket| token.is(bracket)) {
            depth += 1;
        } else if [")", "]", "}"].iter().any(|bracket| token.is(bracket)) {
            depth = depth.saturating_sub(1);
        }
        if depth == 0 {
            return index + 1;
        }
    }
    tokens.len()
}

fn is_sequence(window: &[Token], sequence: &[&str]) -> bool {
    window.iter().zip(sequence).all(|(token, text)| token.is(text))
}

fn function(tokens: &[Token], start: usize) -> Option<Function<'_>> {
    let name = tokens.get(start + 1).filter(|token| token.kind == lexer::Kind::Word)?;
    let open = body_start(tokens, start + 2)?;
    let end = closing(tokens, open);
    let line = tokens.get(start)?.line;
    let last_line = tokens.get(end - 1)?.line;
    Some(Function {
        name: &name.text,
        line,
        lines: last_line - line + 1,
        attributes: attributes_before(tokens, start),
        body: tokens.get(open + 1..end - 1).unwrap_or_default(),
    })
}

/// The brace that opens the body; `None` for a function that is only declared.
fn body_start(tokens: &[Token], from: usize) -> Option<usize> {
    let mut index = from;
    loop {
        let token = tokens.get(index)?;
        if token.is("{") {
            return Some(index);
        }
        if token.is(";") {
            return None;
        }
        let opens = token.is("(") || token.is("[");
        index = if opens { closing(tokens, index) } else { index + 1 };
    }
}

/// Everything between the end of the item before and `fn`: its attributes, visibility and qualifiers.
fn attributes_before(tokens: &[Token], start: usize) -> &[Token] {
    let mut depth = 0usize;
    let mut first = start;
    for (index, token) in tokens.iter().enumerate().take(start).rev() {
        if token.is("]") || token.is(")") {
            depth += 1;
        } else if token.is("[") || token.is("(") {
            if depth == 0 {
                break;
            }
            depth -= 1;
        } else if depth == 0 && (token.is("}") || token.is("{") || token.is(";") || token.is(",")) {
            break;
        }
        first = index;
    }
    tokens.get(first..start).unwrap_or_default()
}

/// Everything in a test binary, in `tests.rs` or `tests/`, and in modules under `#[cfg(test)]`.
fn test_ranges(path: &str, tokens: &[Token]) -> Vec<Range<usize>> {
    let is_test_file = path.split('/').any(|part| part == "tests" || part == "tests.rs");
    if is_test_file {
        return std::iter::once(0..tokens.len()).collect();
    }
    let marker = ["#", "[", "cfg", "(", "test", ")", "]"];
    let windows = tokens.windows(marker.len()).enumerate();
    let starts = windows.filter(|(_, window)| is_sequence(window, &marker)).map(|(index, _)| index);
    starts
        .map(|start| match body_start(tokens, start + marker.len()) {
            Some(open) => start..closing(tokens, open),
            None => start..start + marker.len(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
#[inline]
pub fn first<T>(x: [u8; 3]) -> u8 where T: Fn() {
    if true { 1 } else { 2 }
}
trait Port { fn declared(&self); }
#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn second() {}
}
";

    #[test]
    fn functions_are_found_with_their_length_and_attributes() {
        let source = Source::new("src/a.rs", TEXT);
        let found: Vec<_> = source.functions().iter().map(|f| (f.name.to_owned(), f.line, f.lines)).collect();
        assert_eq!(found, [("first".to_owned(), 2, 3), ("second".to_owned(), 9, 1)]);
        let functions = source.functions();
        assert!(functions.iter().any(|f| f.name == "second" && contains(f.attributes, "tokio :: test")));
        assert!(functions.iter().any(|f| f.name == "first" && contains(f.attributes, "# [ inline ]")));
    }

    #[test]
    fn code_under_cfg_test_is_a_test_and_nothing_else_is() {
        let source = Source::new("src/a.rs", TEXT);
        let place = |name: &str| source.find(name).into_iter().map(|i| source.is_test(i)).collect::<Vec<_>>();
        assert_eq!(place("first"), [false]);
        assert_eq!(place("second"), [true]);
    }

    #[test]
    fn a_file_of_a_test_binary_is_all_test() {
        let source = Source::new("crates/log/tests/it/main.rs", "fn one() {}");
        assert!(source.is_test(0));
    }
}
