//! Splits Rust source into tokens and comments, each with its line.
//!
//! It is no parser: it knows exactly as much as is needed so that a rule never mistakes the inside of a string or of
//! a comment for code. Whatever it does not know becomes a mark of one character, so it accepts any text.

/// What sort of token it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// An identifier, a keyword or a number.
    Word,
    /// The inside of a string or character literal, without quotes.
    Literal,
    /// `::`, a lifetime's tick, or a single character.
    Mark,
}

/// A piece of code.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) text: String,
    pub(crate) line: usize,
}

impl Token {
    /// Whether it is this word or mark; a literal never is.
    pub(crate) fn is(&self, text: &str) -> bool {
        self.kind != Kind::Literal && self.text == text
    }
}

/// A comment with its slashes. A block comment is one piece.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Comment {
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// Splits a whole file.
pub(crate) fn split(text: &str) -> (Vec<Token>, Vec<Comment>) {
    let mut lexer = Lexer { rest: text, line: 1, tokens: Vec::new(), comments: Vec::new() };
    while !lexer.rest.is_empty() {
        lexer.step();
    }
    (lexer.tokens, lexer.comments)
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
    tokens: Vec<Token>,
    comments: Vec<Comment>,
}

impl<'a> Lexer<'a> {
    fn step(&mut self) {
        if let Some(bytes) = span(self.rest, char::is_whitespace) {
            self.take(bytes);
        } else if self.rest.starts_with("//") {
            self.comment(self.rest.find('\n').unwrap_or(self.rest.len()));
        } else if self.rest.starts_with("/*") {
            self.comment(block_comment(self.rest));
        } else if let Some((open, close)) = raw_string(self.rest) {
            self.literal(open, &close);
        } else if let Some(open) = string(self.rest) {
            self.escaped(open, '"');
        } else if let Some(open) = character(self.rest) {
            self.escaped(open, '\'');
        } else {
            self.code();
        }
    }

    fn code(&mut self) {
        let raw = if self.rest.starts_with("r#") { 2 } else { 0 };
        let bytes = self.rest.get(raw..).and_then(|rest| span(rest, is_word));
        let (kind, bytes) = match bytes {
            Some(bytes) => (Kind::Word, raw + bytes),
            None if self.rest.starts_with("::") => (Kind::Mark, 2),
            None => (Kind::Mark, self.rest.chars().next().map_or(1, char::len_utf8)),
        };
        let line = self.line;
        let text = self.take(bytes).trim_start_matches("r#").to_owned();
        self.tokens.push(Token { kind, text, line });
    }

    fn comment(&mut self, bytes: usize) {
        let line = self.line;
        let text = self.take(bytes).to_owned();
        self.comments.push(Comment { text, line });
    }

    /// A literal without escapes, from an opening of so many bytes to its closing.
    fn literal(&mut self, open: usize, close: &str) {
        let line = self.line;
        self.take(open);
        let inside = self.rest.find(close).unwrap_or(self.rest.len());
        let text = self.take(inside).to_owned();
        self.take(close.len());
        self.tokens.push(Token { kind: Kind::Literal, text, line });
    }

    /// A literal in which a backslash takes the next character along.
    fn escaped(&mut self, open: usize, close: char) {
        let line = self.line;
        self.take(open);
        let mut skip = false;
        let inside = self.rest.find(|c| {
            let ends = c == close && !skip;
            skip = c == '\\' && !skip;
            ends
        });
        let text = self.take(inside.unwrap_or(self.rest.len())).to_owned();
        self.take(1);
        self.tokens.push(Token { kind: Kind::Literal, text, line });
    }

    fn take(&mut self, bytes: usize) -> &'a str {
        let (head, tail) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.line += head.matches('\n').count();
        self.rest = tail;
        head
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// How many bytes at the start belong to the class; `None` if there are none.
fn span(text: &str, class: impl Fn(char) -> bool) -> Option<usize> {
    let bytes = text.find(|c| !class(c)).unwrap_or(text.len());
    (bytes > 0).then_some(bytes)
}

/// Length of a block comment; they nest.
fn block_comment(text: &str) -> usize {
    let mut depth = 0usize;
    let mut bytes = 0;
    while let Some(rest) = text.get(bytes..).filter(|rest| !rest.is_empty()) {
        let step = if rest.starts_with("/*") {
            depth += 1;
            2
        } else if rest.starts_with("*/") {
            depth = depth.saturating_sub(1);
            2
        } else {
            rest.chars().next().map_or(1, char::len_utf8)
        };
        bytes += step;
        if depth == 0 {
            break;
        }
    }
    bytes
}

/// Length of the opening of `r"`, `r#"`, `br"`, … and the closing that belongs to it.
fn raw_string(text: &str) -> Option<(usize, String)> {
    let after_prefix = text.strip_prefix(['b', 'c']).unwrap_or(text).strip_prefix('r')?;
    let after_hashes = after_prefix.trim_start_matches('#');
    let hashes = after_prefix.len() - after_hashes.len();
    let inside = after_hashes.strip_prefix('"')?;
    Some((text.len() - inside.len(), format!("\"{}", "#".repeat(hashes))))
}

/// Length of the opening of `"`, `b"` or `c"`.
fn string(text: &str) -> Option<usize> {
    let inside = text.strip_prefix(['b', 'c']).unwrap_or(text).strip_prefix('"')?;
    Some(text.len() - inside.len())
}

/// Length of the opening of a character literal. A tick that closes after one character, or before a backslash, is
/// one; any other tick begins a lifetime.
fn character(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('b').unwrap_or(text).strip_prefix('\'')?;
    let mut chars = inside.chars();
    let is_literal = chars.next()? == '\\' || chars.next()? == '\'';
    is_literal.then_some(text.len() - inside.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> String {
        let (tokens, _) = split(text);
        let texts: Vec<String> = tokens
            .iter()
            .map(|token| match token.kind {
                Kind::Literal => format!("<{}>", token.text),
                Kind::Word | Kind::Mark => token.text.clone(),
            })
            .collect();
        texts.join(" ")
    }

    #[test]
    fn strings_of_every_form_hide_what_is_inside() {
        assert_eq!(
            words(r##"a("x\"y", r#"q"q"#, b"z", c"n", br"k")"##),
            r#"a ( <x\"y> , <q"q> , <z> , <n> , <k> )"#
        );
    }

    #[test]
    fn characters_are_told_from_lifetimes() {
        assert_eq!(words(r"f::<'a>('b', '\'', b'\n', '{')"), r"f :: < ' a > ( <b> , <\'> , <\n> , <{> )");
    }

    #[test]
    fn comments_nest_and_keep_their_line() {
        let (tokens, comments) = split("a // one\n/* two /* three */ */ r#type\n");
        assert_eq!(tokens.last().map(|token| (token.text.as_str(), token.line)), Some(("type", 2)));
        let lines: Vec<(usize, &str)> =
            comments.iter().map(|comment| (comment.line, comment.text.as_str())).collect();
        assert_eq!(lines, [(1, "// one"), (2, "/* two /* three */ */")]);
    }

    #[test]
    fn a_broken_file_ends_instead_of_hanging() {
        assert_eq!(words("\"never closed"), "<never closed>");
        assert_eq!(split("/* never closed").1.len(), 1);
    }
}
