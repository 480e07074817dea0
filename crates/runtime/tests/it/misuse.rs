//! What the compiler says where handlers are written wrongly.

#[test]
fn a_handler_that_is_none_is_a_compiler_error_that_names_the_cure() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
