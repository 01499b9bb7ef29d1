//! The shape that all of Istio's messages share.

/// Defines messages with the reading and writing rules of Istio's objects: camelCase names, every field optional,
/// unknown fields refused by name, and nothing written for a field that holds its default.
///
/// A field is `Option` where "set to zero" and "not set" differ; elsewhere an empty string, list or map and the
/// number zero mean "not set", as in protobuf.
macro_rules! message {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[$fmeta:meta])* pub $field:ident : $ty:ty, )*
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(rename_all = "camelCase", default, deny_unknown_fields)]
        pub struct $name {
            $(
                $(#[$fmeta])*
                #[serde(skip_serializing_if = "crate::istio::message::is_default")]
                pub $field: $ty,
            )*
        }
    )*};
}

/// Defines enumerations by the names that Istio's YAML uses; the first one is the default.
macro_rules! names {
    ($(
        $(#[$meta:meta])*
        pub enum $name:ident {
            $(#[$dmeta:meta])* $default:ident = $dtext:literal,
            $( $(#[$vmeta:meta])* $variant:ident = $text:literal, )*
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(
            Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord,
            serde::Serialize, serde::Deserialize, schemars::JsonSchema,
        )]
        pub enum $name {
            $(#[$dmeta])* #[default] #[serde(rename = $dtext)] $default,
            $( $(#[$vmeta])* #[serde(rename = $text)] $variant, )*
        }

        impl $name {
            /// The name as YAML has it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { Self::$default => $dtext, $( Self::$variant => $text, )* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )*};
}

pub(crate) use {message, names};

/// Whether a field holds its default, and so is not written.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
