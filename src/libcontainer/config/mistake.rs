//! Reads a JSON value into a type. Mistakes are values here: serde_json has them only as English sentences.

use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{Deserializer, Error, Expected, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::Value;

/// The mistake that a type finds in a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mistake {
    /// A required property with this name is missing.
    Missing(&'static str),
    /// The word is not one of the expected ones.
    UnknownWord(String, &'static [&'static str]),
    /// The value has another type, or is out of range. Contains the expectation in serde's words.
    Unexpected(String),
    /// Another mistake, in the type's own words.
    Other(String),
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mistake::Missing(name) => write!(f, "{name} is missing"),
            Mistake::UnknownWord(word, expected) => write!(f, "unknown value {word:?}, expected {expected:?}"),
            Mistake::Unexpected(expected) => write!(f, "expected {expected}"),
            Mistake::Other(said) => f.write_str(said),
        }
    }
}

impl std::error::Error for Mistake {}

impl Error for Mistake {
    fn custom<T: fmt::Display>(said: T) -> Mistake {
        Mistake::Other(said.to_string())
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Mistake {
        Mistake::Unexpected(expected.to_string())
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Mistake {
        Mistake::Unexpected(expected.to_string())
    }

    fn invalid_length(_: usize, expected: &dyn Expected) -> Mistake {
        Mistake::Unexpected(expected.to_string())
    }

    fn unknown_variant(word: &str, expected: &'static [&'static str]) -> Mistake {
        Mistake::UnknownWord(word.to_owned(), expected)
    }

    fn missing_field(name: &'static str) -> Mistake {
        Mistake::Missing(name)
    }
}

/// A value that is read.
#[derive(Clone, Copy)]
pub(super) struct Json<'v>(pub(super) &'v Value);

impl<'v> IntoDeserializer<'v, Mistake> for Json<'v> {
    type Deserializer = Json<'v>;

    fn into_deserializer(self) -> Json<'v> {
        self
    }
}

impl<'de> Deserializer<'de> for Json<'de> {
    type Error = Mistake;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(value), ..) => visitor.visit_u64(value),
                (None, Some(value), _) => visitor.visit_i64(value),
                (None, None, Some(value)) => visitor.visit_f64(value),
                (None, None, None) => Err(Mistake::Other(format!("{number} is out of range"))),
            },
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(list) => visitor.visit_seq(SeqDeserializer::new(list.iter().map(Json))),
            Value::Object(object) => {
                visitor.visit_map(MapDeserializer::new(object.iter().map(|(name, value)| (name.as_str(), Json(value)))))
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Mistake> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        match self.0 {
            Value::String(word) => visitor.visit_enum(word.as_str().into_deserializer()),
            _ => Err(Mistake::Unexpected("string or map".to_owned())),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}
