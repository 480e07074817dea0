//! The page of an error code, as `ensue explain` prints it and `docs/errors` keeps it: Markdown that reads well as it is.

use super::{Code, Kind};

/// The page of `code`: what it is, why it happens, how to mend it, where to see it again.
pub fn page(code: Code) -> String {
    let sections = [
        format!("# {code}: {}", code.title()),
        format!("## Why\n\n{}", code.why()),
        format!("## What to do\n\n{}", code.fix()),
        format!(
            "## In a program\n\n`error.code() == Code::{}`; `error.kind()` is `Kind::{:?}`. {}",
            code.constant(),
            code.kind(),
            retry(code.kind()),
        ),
        format!("## On the command line\n\n```sh\nensue explain {code}\n```"),
    ];
    let mut page = sections.join("\n\n");
    page.push('\n');
    page
}

fn retry(kind: Kind) -> &'static str {
    if kind.is_retryable() {
        "The same call may succeed later without a change."
    } else {
        "The same call will fail again until something is changed."
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_says_what_why_and_how_to_mend_it() {
        assert_eq!(
            page(Code::STALE_VERSION),
            "# E0201: the stream has moved on\n\
             \n\
             ## Why\n\
             \n\
             The append expected a version that is not the stream's current one: another writer was faster, or the \
             decision was made from old state.\n\
             \n\
             ## What to do\n\
             \n\
             Read the stream again, decide again, append with the new version.\n\
             \n\
             ## In a program\n\
             \n\
             `error.code() == Code::STALE_VERSION`; `error.kind()` is `Kind::Conflict`. The same call will fail again \
             until something is changed.\n\
             \n\
             ## On the command line\n\
             \n\
             ```sh\n\
             ensue explain E0201\n\
             ```\n"
        );
    }

    #[test]
    fn every_code_has_a_page_with_whole_sentences() {
        for code in Code::all() {
            assert!(page(code).starts_with(&format!("# {code}: ")), "{code}");
            for sentence in [code.why(), code.fix()] {
                assert!(sentence.ends_with('.'), "{code}: {sentence}");
            }
            assert!(!code.title().ends_with('.'), "{code}: a title is no sentence");
        }
    }

    #[test]
    fn a_page_says_whether_trying_again_helps() {
        assert!(page(Code::BUSY).contains("may succeed later"));
        assert!(page(Code::INVALID_NAME).contains("will fail again"));
    }
}
