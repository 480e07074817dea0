//! Reading `#[event(..)]`, `#[command(..)]` and `#[emits(..)]`: each setting at most once, unknown ones refused with
//! the list of those that exist.

use syn::meta::ParseNestedMeta;
use syn::parse::Parse;
use syn::{Attribute, DeriveInput, Error, Path, parse_quote};

/// Calls `setting` for each setting of each attribute called `attribute`.
pub(crate) fn for_each_setting(
    attributes: &[Attribute],
    attribute: &str,
    mut setting: impl FnMut(&ParseNestedMeta<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    attributes
        .iter()
        .filter(|candidate| candidate.path().is_ident(attribute))
        .try_for_each(|found| found.parse_nested_meta(|meta| setting(&meta)))
}

/// Reads `name = value` into `slot`; `form` shows how it is written.
pub(crate) fn value<T: Parse>(
    slot: &mut Option<T>,
    meta: &ParseNestedMeta<'_>,
    form: &str,
) -> Result<(), Error> {
    let span = meta.path.get_ident().map_or_else(|| meta.input.span(), syn::Ident::span);
    if slot.is_some() {
        return Err(Error::new(span, "this is set twice: remove one of them"));
    }
    let parsed = meta.value().and_then(syn::parse::ParseBuffer::parse);
    *slot = Some(parsed.map_err(|cause| Error::new(cause.span(), format!("write {form}")))?);
    Ok(())
}

/// The error of a setting that does not exist, with those that do.
pub(crate) fn unknown(meta: &ParseNestedMeta<'_>, attribute: &str, known: &[&str]) -> Error {
    let list: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
    meta.error(format!("`#[{attribute}(..)]` has no such setting here: use {}", list.join(", ")))
}

/// Where the generated code finds `ensue-core`.
pub(crate) fn core_path(given: Option<Path>) -> Path {
    given.unwrap_or_else(|| parse_quote!(::ensue::core))
}

/// The path of `ensue-core` for an enum, which takes no other setting.
pub(crate) fn core_path_of_enum(input: &DeriveInput, attribute: &str) -> Result<Path, Error> {
    let mut given = None;
    for_each_setting(&input.attrs, attribute, |meta| {
        if meta.path.is_ident("crate") {
            value(&mut given, meta, "`crate = path`")
        } else {
            Err(meta.error(format!(
                "an enum is a set and takes `crate` only: put `#[{attribute}(..)]` on the structs that its variants hold"
            )))
        }
    })?;
    Ok(core_path(given))
}

/// Refuses type parameters: a name stands for one type of body.
pub(crate) fn refuse_generics(input: &DeriveInput, derive: &str) -> Result<(), Error> {
    if input.generics.params.is_empty() && input.generics.where_clause.is_none() {
        return Ok(());
    }
    Err(Error::new_spanned(
        &input.generics,
        format!(
            "`{derive}` needs a type without parameters, because a stored name stands for one shape: write out the type"
        ),
    ))
}
