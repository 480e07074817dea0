//! The setting `upcast(1 = from_v1, 2 = from_v2)`: one function for each older schema version, without a gap.

use proc_macro2::TokenStream;
use quote::quote;
use syn::punctuated::Punctuated;
use syn::{
    Error, LitInt, Path, Token, meta::ParseNestedMeta, parenthesized, parse::Parse, parse::ParseStream,
};

/// What makes of a body of one version one of the next.
pub(crate) struct Upcast {
    literal: LitInt,
    from: u32,
    function: Path,
}

impl Parse for Upcast {
    fn parse(input: ParseStream<'_>) -> Result<Self, Error> {
        let literal: LitInt = input.parse()?;
        let from = literal.base10_parse()?;
        input.parse::<Token![=]>()?;
        Ok(Self { literal, from, function: input.parse()? })
    }
}

/// Reads the setting.
pub(crate) fn read(into: &mut Vec<Upcast>, meta: &ParseNestedMeta<'_>) -> Result<(), Error> {
    let content;
    parenthesized!(content in meta.input);
    let upcasts = Punctuated::<Upcast, Token![,]>::parse_terminated(&content);
    let upcasts = upcasts.map_err(|cause| {
        Error::new(cause.span(), "write `upcast(1 = from_v1, 2 = from_v2)`, with paths of functions")
    })?;
    into.extend(upcasts);
    Ok(())
}

/// The method, if the setting is there. The versions must be all from 1 up to the one before the newest.
pub(crate) fn expand(upcasts: &[Upcast], newest: u32, core: &Path) -> Result<Option<TokenStream>, Error> {
    for (upcast, expected) in upcasts.iter().zip(1..) {
        if upcast.from != expected || upcast.from >= newest {
            let what = if upcast.from >= newest {
                format!("version {newest} is the newest: only older ones are brought up to it")
            } else {
                format!("version {expected} comes here: every older version has its function, in order")
            };
            return Err(Error::new(upcast.literal.span(), what));
        }
    }
    let Some(last) = upcasts.last() else { return Ok(None) };
    if last.from + 1 != newest {
        let missing = last.from + 1;
        return Err(Error::new(
            last.literal.span(),
            format!("version {missing} is missing: the chain must lead up to version {newest}"),
        ));
    }
    let arms = upcasts.iter().map(|Upcast { from, function, .. }| quote!(#from => #function(body),));
    Ok(Some(quote! {
        fn upcast(from: u32, body: &mut #core::event::Body) {
            match from {
                #(#arms)*
                _ => {}
            }
        }
    }))
}
