//! `#[derive(Emits)]`: an enum whose variants each stand for what a handler causes.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{DeriveInput, Error, Fields};

use crate::attribute::{core_path_of_enum, refuse_generics};
use crate::variant::{holder, variants};

/// Implements `Emits` for an enum.
pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream, Error> {
    refuse_generics(input, "Emits")?;
    let name = &input.ident;
    let mut bodies = Vec::new();
    let mut arms = Vec::new();
    let all = variants(input)?;
    let core = core_path_of_enum(input, "emits")?;
    for variant in all {
        let ident = &variant.ident;
        if let Some(held) = holder(variant) {
            arms.push(quote!(Self::#ident(value) => #core::Emits::emit(value, out)));
            bodies.push(held.body);
        } else if matches!(variant.fields, Fields::Unit) {
            arms.push(quote!(Self::#ident => ::std::result::Result::Ok(())));
        } else {
            return Err(Error::new_spanned(
                variant,
                format!(
                    "a variant holds one value that emits, or nothing: write `{ident}(Event)`, `{ident}((One, Two))` for several, or `{ident}`"
                ),
            ));
        }
    }
    if arms.is_empty() {
        return Err(Error::new(
            name.span(),
            "an outcome without variants cannot be returned: add one, such as `Done(Event)`",
        ));
    }
    Ok(quote! {
        #[automatically_derived]
        impl #core::Emits for #name {
            fn types() -> ::std::vec::Vec<#core::EventInfo> {
                let types: ::std::vec::Vec<::std::vec::Vec<#core::EventInfo>> =
                    ::std::vec![#(<#bodies as #core::Emits>::types()),*];
                types.concat()
            }
            fn emit(self, out: &mut ::std::vec::Vec<#core::Draft>) -> ::std::result::Result<(), #core::Error> {
                match self {
                    #(#arms,)*
                }
            }
        }
    })
}
