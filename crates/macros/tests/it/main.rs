//! What the derives generate, used as an application uses it, and what the compiler says where they are misused.

mod command;
mod emits;
mod event;
mod names;

#[test]
fn misuse_is_a_compiler_error_that_names_the_cure() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
