//! `#[derive(Event)]`: a struct becomes an `Event`, an enum an `EventSet`.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{DeriveInput, Error, Ident, LitInt, LitStr, Path, ext::IdentExt, meta::ParseNestedMeta};

use crate::attribute::{core_path, core_path_of_enum, for_each_setting, refuse_generics, unknown, value};
use crate::field::{self, Named};
use crate::name;
use crate::upcast::{self, Upcast};
use crate::variant::{Holder, holders};

const SETTINGS: [&str; 8] = ["topic", "key", "name", "version", "upcast", "tags", "validate", "crate"];

#[derive(Default)]
struct Settings {
    core: Option<Path>,
    name: Option<LitStr>,
    version: Option<LitInt>,
    topic: Option<LitStr>,
    key: Option<Ident>,
    upcasts: Vec<Upcast>,
    tags: Vec<TagSetting>,
    validate: Option<Path>,
}

struct TagSetting {
    name: Option<LitStr>,
    field: Ident,
}

impl Settings {
    fn read(input: &DeriveInput) -> Result<Self, Error> {
        let mut settings = Self::default();
        for_each_setting(&input.attrs, "event", |meta| settings.take(meta))?;
        Ok(settings)
    }

    fn take(&mut self, meta: &ParseNestedMeta<'_>) -> Result<(), Error> {
        let setting = meta.path.get_ident().map(Ident::to_string).unwrap_or_default();
        match setting.as_str() {
            "crate" => value(&mut self.core, meta, "`crate = path`"),
            "name" => value(&mut self.name, meta, "`name = \"OrderPlaced\"`"),
            "version" => value(&mut self.version, meta, "`version = 2`"),
            "topic" => value(&mut self.topic, meta, "`topic = \"Order\"`"),
            "key" => value(&mut self.key, meta, "`key = order_id`: the name of a field, without quotes"),
            "validate" => value(&mut self.validate, meta, "`validate = path::of::function`"),
            "upcast" => upcast::read(&mut self.upcasts, meta),
            "tags" => meta.parse_nested_meta(|tag| {
                self.tags.push(TagSetting::read(&tag)?);
                Ok(())
            }),
            _ => Err(unknown(meta, "event", &SETTINGS)),
        }
    }

    fn version(&self) -> Result<u32, Error> {
        let Some(literal) = &self.version else { return Ok(1) };
        match literal.base10_parse() {
            Ok(version) if version > 0 => Ok(version),
            _ => {
                Err(Error::new(literal.span(), "a schema version counts from 1: write `version = 1` or more"))
            }
        }
    }
}

impl TagSetting {
    /// `field`, or `name = field` where the tag has another name.
    fn read(meta: &ParseNestedMeta<'_>) -> Result<Self, Error> {
        let first = meta.path.require_ident()?.clone();
        if meta.input.peek(syn::Token![=]) {
            let name = LitStr::new(&first.unraw().to_string(), first.span());
            Ok(Self { name: Some(name), field: meta.value()?.parse()? })
        } else {
            Ok(Self { name: None, field: first })
        }
    }

    fn expand(&self, input: &DeriveInput) -> Result<TokenStream, Error> {
        let Named { ident, json } = field::find(input, &self.field)?;
        let name = self.name.clone().unwrap_or(json);
        name::check_tag(&name)?;
        let text = quote_spanned!(ident.span()=> ::std::string::ToString::to_string(&self.#ident));
        Ok(quote!((#name, #text)))
    }
}

/// Implements `Event` for a struct.
pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream, Error> {
    refuse_generics(input, "Event")?;
    let settings = Settings::read(input)?;
    let struct_name = &input.ident;
    let event_type = match &settings.name {
        Some(name) => name.clone(),
        None => LitStr::new(&struct_name.unraw().to_string(), struct_name.span()),
    };
    name::check_type(&event_type)?;
    let topic = settings.topic.as_ref().ok_or_else(|| {
        Error::new(struct_name.span(), "an event belongs to a topic: add `#[event(topic = \"Order\")]`")
    })?;
    name::check_topic(topic)?;
    let key = settings.key.as_ref().ok_or_else(|| {
        Error::new(
            struct_name.span(),
            "an event has a key, its business id: add `#[event(key = order_id)]` with one of its fields",
        )
    })?;
    let Named { ident: key, json: key_field } = field::find(input, key)?;
    let version = settings.version()?;
    let tags = settings.tags.iter().map(|tag| tag.expand(input)).collect::<Result<Vec<_>, _>>()?;
    let tags = (!tags.is_empty()).then(|| {
        quote! {
            fn tags(&self) -> ::std::vec::Vec<(&'static str, ::std::string::String)> {
                ::std::vec![#(#tags),*]
            }
        }
    });
    let validate = settings.validate.as_ref().map(|path| {
        quote! {
            fn validate(&self) -> ::std::result::Result<(), ::std::string::String> {
                #path(self)
            }
        }
    });
    let core = core_path(settings.core);
    let upcast = upcast::expand(&settings.upcasts, version, &core)?;
    let key_text = quote_spanned!(key.span()=> ::std::string::ToString::to_string(&self.#key));
    Ok(quote! {
        #[automatically_derived]
        impl #core::Event for #struct_name {
            const INFO: #core::EventInfo = #core::EventInfo {
                event_type: #event_type,
                version: #version,
                topic: #topic,
                key_field: #key_field,
            };
            fn key(&self) -> ::std::string::String {
                #key_text
            }
            #upcast
            #tags
            #validate
        }
    })
}

/// Implements `EventSet` for an enum.
pub(crate) fn derive_set(input: &DeriveInput) -> Result<TokenStream, Error> {
    refuse_generics(input, "Event")?;
    let core = core_path_of_enum(input, "event")?;
    let set = &input.ident;
    let (other, events) = split_unknown(holders(input, "an event")?)?;
    let bodies: Vec<_> = events.iter().map(|holder| holder.body).collect();
    let variants: Vec<_> = events.iter().map(|holder| holder.ident).collect();
    let decode_other = other.as_ref().map_or_else(
        || {
            quote!(::std::result::Result::Err(
                #core::event::not_in_set(envelope, &<Self as #core::EventSet>::types())
            ))
        },
        |Holder { ident, .. }| {
            quote!(::std::result::Result::Ok(Self::#ident(#core::Unknown {
                event_type: ::std::clone::Clone::clone(&envelope.event_type),
                data: ::std::clone::Clone::clone(&envelope.data),
            })))
        },
    );
    let draft_other = other.as_ref().map(|Holder { ident, .. }| quote! {
        Self::#ident(unknown) => ::std::result::Result::Err(#core::Error::new(
            #core::Code::UNKNOWN_TYPE,
            ::std::format!("{} was read without being known, so it cannot be written again", unknown.event_type),
        )),
    });
    Ok(quote! {
        #[automatically_derived]
        impl #core::EventSet for #set {
            fn types() -> ::std::vec::Vec<#core::EventInfo> {
                ::std::vec![#(<#bodies as #core::Event>::INFO),*]
            }
            fn decode(envelope: &#core::Envelope) -> ::std::result::Result<Self, #core::Error> {
                match envelope.event_type.as_str() {
                    #(name if name == <#bodies as #core::Event>::INFO.event_type => {
                        #core::event::decode_event::<#bodies>(envelope).map(Self::#variants)
                    })*
                    _ => #decode_other,
                }
            }
            fn draft(&self) -> ::std::result::Result<#core::Draft, #core::Error> {
                match self {
                    #(Self::#variants(event) => #core::Draft::of(event),)*
                    #draft_other
                }
            }
        }
        #(#[automatically_derived]
        impl ::std::convert::From<#bodies> for #set {
            fn from(event: #bodies) -> Self {
                Self::#variants(event)
            }
        })*
    })
}

/// Parts the variant marked `#[event(unknown)]` from those that hold events.
fn split_unknown(all: Vec<Holder<'_>>) -> Result<(Option<Holder<'_>>, Vec<Holder<'_>>), Error> {
    let mut other = None;
    let mut events = Vec::new();
    for holder in all {
        let mut marked = false;
        for_each_setting(&holder.source.attrs, "event", |meta| {
            if meta.path.is_ident("unknown") {
                marked = true;
                Ok(())
            } else {
                Err(unknown(meta, "event", &["unknown"]))
            }
        })?;
        if !marked {
            events.push(holder);
        } else if other.is_none() {
            other = Some(holder);
        } else {
            return Err(Error::new_spanned(
                holder.source,
                "one variant takes the unknown types: remove one of the marks",
            ));
        }
    }
    Ok((other, events))
}
