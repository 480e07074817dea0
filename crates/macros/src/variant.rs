//! The variants of an enum that is a set: each holds one value without a name, or nothing where that has a meaning.

use syn::{Data, DeriveInput, Error, Fields, Ident, Type, Variant};

/// A variant that holds one value.
pub(crate) struct Holder<'a> {
    /// The variant.
    pub(crate) ident: &'a Ident,
    /// What it holds.
    pub(crate) body: &'a Type,
    /// The variant as written, for its attributes.
    pub(crate) source: &'a Variant,
}

/// The variants of `input`, which must each hold `what`, such as "an event".
pub(crate) fn holders<'a>(input: &'a DeriveInput, what: &str) -> Result<Vec<Holder<'a>>, Error> {
    let all = variants(input)?;
    if all.is_empty() {
        return Err(Error::new_spanned(
            &input.ident,
            format!("the set is empty: add a variant that holds {what}"),
        ));
    }
    all.into_iter()
        .map(|variant| {
            holder(variant).ok_or_else(|| {
                Error::new_spanned(
                    variant,
                    format!("each variant holds {what}, without a name: write `{}(Type)`", variant.ident),
                )
            })
        })
        .collect()
}

/// The variants of an enum, as written.
pub(crate) fn variants(input: &DeriveInput) -> Result<Vec<&Variant>, Error> {
    match &input.data {
        Data::Enum(data) => Ok(data.variants.iter().collect()),
        Data::Struct(_) | Data::Union(_) => Err(Error::new_spanned(
            &input.ident,
            "`Emits` is derived on an enum: an event emits itself, so a struct needs `Event` instead",
        )),
    }
}

/// The variant as a holder, if it holds one value without a name.
pub(crate) fn holder(variant: &Variant) -> Option<Holder<'_>> {
    let Fields::Unnamed(fields) = &variant.fields else { return None };
    let mut fields = fields.unnamed.iter();
    match (fields.next(), fields.next()) {
        (Some(field), None) => Some(Holder { ident: &variant.ident, body: &field.ty, source: variant }),
        _ => None,
    }
}
