//! Text inside Mermaid diagrams.

use std::fmt::Write;

/// Text that a diagram shows as it is: what the syntax uses is written as an entity, and it stays on one line.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '#' | ';' | '"' | '<' | '>' | '{' | '}' | '|' | '`' | '\\' | '%' => {
                write!(safe, "#{};", u32::from(letter)).expect("a string takes every text");
            }
            letter if letter.is_control() => safe.push(' '),
            letter => safe.push(letter),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_text_is_taken_for_syntax() {
        assert_eq!(escaped("OrderPlaced of ORD-1: 5 €"), "OrderPlaced of ORD-1: 5 €");
        assert_eq!(escaped("a;b#c\"d\ne"), "a#59;b#35;c#34;d e");
        assert_eq!(escaped("{\"x\":1}"), "#123;#34;x#34;:1#125;");
        assert_eq!(escaped("%% end"), "#37;#37; end");
    }
}
