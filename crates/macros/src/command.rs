//! `#[derive(Command)]`: a struct becomes a `Command`, an enum a `CommandSet`.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{DeriveInput, Error, Ident, LitStr, Path, Type, ext::IdentExt, meta::ParseNestedMeta, parse_quote};

use crate::attribute::{core_path, core_path_of_enum, for_each_setting, refuse_generics, unknown, value};
use crate::field::{self, Named};
use crate::name;
use crate::variant::holders;

const SETTINGS: [&str; 6] = ["key", "name", "reply", "failure", "publish", "crate"];

#[derive(Default)]
struct Settings {
    core: Option<Path>,
    name: Option<LitStr>,
    key: Option<Ident>,
    reply: Option<Type>,
    failure: Option<Type>,
    publish: Option<Ident>,
}

impl Settings {
    fn read(input: &DeriveInput) -> Result<Self, Error> {
        let mut settings = Self::default();
        for_each_setting(&input.attrs, "command", |meta| settings.take(meta))?;
        Ok(settings)
    }

    fn take(&mut self, meta: &ParseNestedMeta<'_>) -> Result<(), Error> {
        let setting = meta.path.get_ident().map(Ident::to_string).unwrap_or_default();
        match setting.as_str() {
            "crate" => value(&mut self.core, meta, "`crate = path`"),
            "name" => value(&mut self.name, meta, "`name = \"ProcessPayment\"`"),
            "key" => value(&mut self.key, meta, "`key = order_id`: the name of a field, without quotes"),
            "reply" => value(&mut self.reply, meta, "`reply = PaymentCompleted`"),
            "failure" => value(&mut self.failure, meta, "`failure = PaymentFailed`"),
            "publish" => {
                self.publish = meta.path.get_ident().cloned();
                Ok(())
            }
            _ => Err(unknown(meta, "command", &SETTINGS)),
        }
    }

    /// The two functions of a published answer. Both answers must be events: a refusal that nobody can see would
    /// leave those who wait for it waiting.
    fn published(&self, core: &Path) -> Result<Option<TokenStream>, Error> {
        let Some(publish) = &self.publish else { return Ok(None) };
        let (Some(reply), Some(failure)) = (&self.reply, &self.failure) else {
            return Err(Error::new(
                publish.span(),
                "`publish` records the answer as an event: name both, `reply = PaymentCompleted, failure = PaymentFailed`",
            ));
        };
        Ok(Some(quote! {
            fn publishes() -> ::std::vec::Vec<#core::EventInfo> {
                ::std::vec![<#reply as #core::Event>::INFO, <#failure as #core::Event>::INFO]
            }
            fn published(
                answer: &::std::result::Result<Self::Reply, Self::Failure>,
            ) -> ::std::result::Result<::std::vec::Vec<#core::Draft>, #core::Error> {
                let draft = match answer {
                    ::std::result::Result::Ok(reply) => #core::Draft::of::<#reply>(reply),
                    ::std::result::Result::Err(failure) => #core::Draft::of::<#failure>(failure),
                };
                ::std::result::Result::Ok(::std::vec![draft?])
            }
        }))
    }
}

/// Implements `Command` for a struct.
pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream, Error> {
    refuse_generics(input, "Command")?;
    let settings = Settings::read(input)?;
    let struct_name = &input.ident;
    let command_type = match &settings.name {
        Some(name) => name.clone(),
        None => LitStr::new(&struct_name.unraw().to_string(), struct_name.span()),
    };
    name::check_type(&command_type)?;
    let key = settings.key.as_ref().ok_or_else(|| {
        Error::new(
            struct_name.span(),
            "a command has a key, its business id: add `#[command(key = order_id)]` with one of its fields",
        )
    })?;
    let Named { ident: key, json: key_field } = field::find(input, key)?;
    let core = core_path(settings.core.clone());
    let published = settings.published(&core)?;
    let reply = settings.reply.unwrap_or_else(|| parse_quote!(()));
    let failure = settings.failure.unwrap_or_else(|| parse_quote!(()));
    let key_text = quote_spanned!(key.span()=> ::std::string::ToString::to_string(&self.#key));
    Ok(quote! {
        #[automatically_derived]
        impl #core::Command for #struct_name {
            const TYPE: &'static str = #command_type;
            const KEY_FIELD: &'static str = #key_field;
            type Reply = #reply;
            type Failure = #failure;
            fn key(&self) -> ::std::string::String {
                #key_text
            }
            #published
        }
    })
}

/// Implements `CommandSet` for an enum.
pub(crate) fn derive_set(input: &DeriveInput) -> Result<TokenStream, Error> {
    refuse_generics(input, "Command")?;
    let core = core_path_of_enum(input, "command")?;
    let set = &input.ident;
    let commands = holders(input, "a command")?;
    let bodies: Vec<_> = commands.iter().map(|holder| holder.body).collect();
    let variants: Vec<_> = commands.iter().map(|holder| holder.ident).collect();
    Ok(quote! {
        #[automatically_derived]
        impl #core::CommandSet for #set {
            fn types() -> ::std::vec::Vec<#core::CommandInfo> {
                ::std::vec![#(<#bodies as #core::Command>::info()),*]
            }
            fn decode(command_type: &str, data: &[u8]) -> ::std::result::Result<Self, #core::Error> {
                match command_type {
                    #(name if name == <#bodies as #core::Command>::TYPE => {
                        #core::command::decode_command::<#bodies>(command_type, data).map(Self::#variants)
                    })*
                    _ => ::std::result::Result::Err(#core::command::unknown_command(command_type)),
                }
            }
            fn key(&self) -> ::std::string::String {
                match self {
                    #(Self::#variants(command) => <#bodies as #core::Command>::key(command),)*
                }
            }
        }
        #(#[automatically_derived]
        impl ::std::convert::From<#bodies> for #set {
            fn from(command: #bodies) -> Self {
                Self::#variants(command)
            }
        })*
    })
}
