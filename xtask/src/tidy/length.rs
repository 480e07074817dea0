//! Functions, files and the core stay short enough to be read in one go.

use crate::finding::Finding;
use crate::source::Source;

const RULE: &str = "length";
const FUNCTION_LINES_MAX: usize = 70;
const FUNCTION_LINES_MEDIAN_MAX: usize = 15;
const FILE_LINES_MAX: usize = 500;
const CORE_FOLDER: &str = "crates/core/";
const CORE_LINES_MAX: usize = 8_000;

/// Looks at the functions of one file, and at the file.
pub(super) fn check(source: &Source) -> Vec<Finding> {
    let long = source.functions().into_iter().filter(|function| function.lines > FUNCTION_LINES_MAX);
    let mut findings: Vec<Finding> = long
        .map(|function| {
            let advice = format!(
                "`{}` has {} lines; split it into functions of at most {FUNCTION_LINES_MAX}",
                function.name, function.lines
            );
            Finding::new(&source.path, function.line, RULE, advice)
        })
        .collect();
    let lines = source.text.lines().count();
    if lines > FILE_LINES_MAX {
        let advice =
            format!("the file has {lines} lines; split it by concept into files of at most {FILE_LINES_MAX}");
        findings.push(Finding::new(&source.path, FILE_LINES_MAX + 1, RULE, advice));
    }
    findings
}

/// Looks at what only all files together show: the median function and the size of the core.
pub(super) fn check_together(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let median = median(&lengths(sources));
    if median > FUNCTION_LINES_MEDIAN_MAX {
        let advice = format!(
            "the median function has {median} lines; bring it to {FUNCTION_LINES_MEDIAN_MAX} or less"
        );
        findings.push(Finding::new(".", 1, RULE, advice));
    }
    let lines = core_lines(sources);
    if lines > CORE_LINES_MAX {
        let advice = format!(
            "the core has {lines} lines of its {CORE_LINES_MAX}; move what is no vocabulary elsewhere"
        );
        findings.push(Finding::new(CORE_FOLDER, 1, RULE, advice));
    }
    findings
}

/// The figures, for the end of the report.
pub(super) fn summary(sources: &[Source]) -> String {
    let lengths = lengths(sources);
    let lines: usize = sources.iter().map(|source| source.text.lines().count()).sum();
    format!(
        "tidy: {} files, {lines} lines; {} functions, median {} lines, longest {}; core {} of {CORE_LINES_MAX} lines",
        sources.len(),
        lengths.len(),
        median(&lengths),
        lengths.last().copied().unwrap_or_default(),
        core_lines(sources),
    )
}

/// Lengths of all functions, sorted.
fn lengths(sources: &[Source]) -> Vec<usize> {
    let functions = sources.iter().flat_map(Source::functions);
    let mut lengths: Vec<usize> = functions.map(|function| function.lines).collect();
    lengths.sort_unstable();
    lengths
}

fn median(sorted: &[usize]) -> usize {
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn core_lines(sources: &[Source]) -> usize {
    let core = sources.iter().filter(|source| source.path.starts_with(CORE_FOLDER));
    core.map(|source| source.text.lines().count()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(lines: usize) -> String {
        format!("fn long() {{\n{}}}\n", "    step();\n".repeat(lines - 2))
    }

    #[test]
    fn a_function_over_the_limit_is_caught_and_one_at_the_limit_passes() {
        let findings = check(&Source::new("a.rs", function(FUNCTION_LINES_MAX + 1)));
        assert!(findings.first().is_some_and(|finding| finding.replacement.contains("`long` has 71 lines")));
        assert_eq!(check(&Source::new("a.rs", function(FUNCTION_LINES_MAX))), []);
    }

    #[test]
    fn a_file_over_the_limit_is_caught_and_one_at_the_limit_passes() {
        assert_eq!(check(&Source::new("a.rs", "// line\n".repeat(FILE_LINES_MAX + 1))).len(), 1);
        assert_eq!(check(&Source::new("a.rs", "// line\n".repeat(FILE_LINES_MAX))), []);
    }

    #[test]
    fn a_core_over_its_budget_is_caught_and_other_crates_do_not_count() {
        let text = "// line\n".repeat(CORE_LINES_MAX + 1);
        assert_eq!(check_together(&[Source::new("crates/core/src/a.rs", text.clone())]).len(), 1);
        assert_eq!(check_together(&[Source::new("crates/log/src/a.rs", text)]), []);
    }

    #[test]
    fn a_long_median_is_caught() {
        let long = Source::new("a.rs", function(FUNCTION_LINES_MEDIAN_MAX + 1).repeat(3));
        assert_eq!(check_together(&[long]).len(), 1);
        let short = Source::new("a.rs", function(FUNCTION_LINES_MEDIAN_MAX).repeat(3));
        assert_eq!(check_together(&[short]), []);
    }
}
