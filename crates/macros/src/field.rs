//! The named fields of a struct and how they are called in its JSON.
//!
//! Only what the key and the tags need is read from serde's attributes; what cannot be followed here is refused, so that
//! the name in the catalogue is never another one than in the document.

use syn::{Attribute, Data, DeriveInput, Error, Field, Fields, Ident, LitStr, Token, ext::IdentExt};

/// A field that a setting names, and its name in JSON.
pub(crate) struct Named<'a> {
    /// The field in Rust.
    pub(crate) ident: &'a Ident,
    /// The name in `data`.
    pub(crate) json: LitStr,
}

/// Finds the field that a setting names.
pub(crate) fn find<'a>(input: &'a DeriveInput, wanted: &Ident) -> Result<Named<'a>, Error> {
    let fields = named_fields(input)?;
    let found = fields
        .iter()
        .find_map(|field| field.ident.as_ref().filter(|ident| *ident == wanted).map(|ident| (field, ident)));
    let Some((field, ident)) = found else {
        let all: Vec<String> =
            fields.iter().filter_map(|field| field.ident.as_ref()).map(|name| format!("`{name}`")).collect();
        let cure =
            if all.is_empty() { "add it".to_owned() } else { format!("use one of {}", all.join(", ")) };
        return Err(Error::new(wanted.span(), format!("`{}` has no field `{wanted}`: {cure}", input.ident)));
    };
    let json = match renamed(field)? {
        Some(name) => name,
        None if renames_all(&input.attrs)? => {
            return Err(Error::new(
                wanted.span(),
                format!(
                    "`#[serde(rename_all)]` hides how `{wanted}` is called in JSON: add `#[serde(rename = \"..\")]` to the field"
                ),
            ));
        }
        None => LitStr::new(&ident.unraw().to_string(), ident.span()),
    };
    Ok(Named { ident, json })
}

fn named_fields(input: &DeriveInput) -> Result<&syn::punctuated::Punctuated<Field, Token![,]>, Error> {
    match &input.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(named) => Ok(&named.named),
            Fields::Unnamed(_) | Fields::Unit => Err(Error::new_spanned(
                &input.ident,
                "the key is a field with a name: write the struct with named fields, `struct Name { order_id: String }`",
            )),
        },
        Data::Enum(_) | Data::Union(_) => Err(Error::new_spanned(&input.ident, "this needs a struct")),
    }
}

fn renamed(field: &Field) -> Result<Option<LitStr>, Error> {
    let mut name = None;
    for attribute in serde_attributes(&field.attrs) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("rename") && meta.input.peek(Token![=]) {
                name = Some(meta.value()?.parse()?);
            } else if ["rename", "skip", "skip_serializing", "flatten"].iter().any(|word| meta.path.is_ident(word)) {
                return Err(meta.error(
                    "a key or tag is read from the JSON of the event, so its field has one name there: use `#[serde(rename = \"..\")]` or no serde attribute",
                ));
            } else {
                skip_rest(&meta)?;
            }
            Ok(())
        })?;
    }
    Ok(name)
}

fn renames_all(attributes: &[Attribute]) -> Result<bool, Error> {
    let mut found = false;
    for attribute in serde_attributes(attributes) {
        attribute.parse_nested_meta(|meta| {
            found |= meta.path.is_ident("rename_all");
            skip_rest(&meta)
        })?;
    }
    Ok(found)
}

fn serde_attributes(attributes: &[Attribute]) -> impl Iterator<Item = &Attribute> {
    attributes.iter().filter(|attribute| attribute.path().is_ident("serde"))
}

/// Steps over the value or the list of a serde setting that does not matter here.
fn skip_rest(meta: &syn::meta::ParseNestedMeta<'_>) -> Result<(), Error> {
    if meta.input.peek(Token![=]) {
        meta.value()?.parse::<syn::Expr>()?;
    } else if meta.input.peek(syn::token::Paren) {
        let list;
        syn::parenthesized!(list in meta.input);
        list.parse::<proc_macro2::TokenStream>()?;
    }
    Ok(())
}
