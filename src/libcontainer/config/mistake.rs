//! Reads a JSON value into a type. Mistakes are values here: serde_json has them only as English sentences.

use std::fmt;

use std::slice;

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error, Expected, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::{Value, map};

/// One step from a document to a place inside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// An element of an array.
    Index(usize),
    /// A property of an object.
    Key(String),
}

/// Reads a `T` from a document.
///
/// # Errors
///
/// The first mistake, with its place.
pub(super) fn from_value<T: DeserializeOwned>(document: &Value) -> Result<T, Located> {
    T::deserialize(Json(document)).map_err(|mut located| {
        located.0.path.reverse();
        located
    })
}

/// The mistake that a type finds in a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mistake {
    /// A required property with this name is missing.
    Missing(&'static str),
    /// No property has this name. Contains the properties that exist.
    UnknownProperty(&'static [&'static str]),
    /// The word is not one of the expected ones.
    UnknownWord(String, &'static [&'static str]),
    /// The value has another type, or is out of range. Contains the expectation in serde's words.
    Unexpected(String),
    /// Another mistake, in the type's own words.
    Other(String),
}

/// A mistake and where it is. It is boxed, because every function that reads a value returns it, and it is rare.
#[derive(Debug)]
pub(super) struct Located(Box<MistakeAt>);

#[derive(Debug)]
struct MistakeAt {
    mistake: Mistake,
    /// While the error goes outward, the innermost segment is the first.
    path: Vec<Segment>,
}

impl Located {
    pub(super) fn mistake(&self) -> &Mistake {
        &self.0.mistake
    }

    pub(super) fn path(&self) -> &[Segment] {
        &self.0.path
    }

    fn inside(mut self, segment: Segment) -> Located {
        self.0.path.push(segment);
        self
    }
}

impl From<Mistake> for Located {
    fn from(mistake: Mistake) -> Located {
        Located(Box::new(MistakeAt { mistake, path: Vec::new() }))
    }
}

impl fmt::Display for Located {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mistake() {
            Mistake::Missing(name) => write!(f, "{name} is missing"),
            Mistake::UnknownProperty(expected) => write!(f, "unknown property, expected {expected:?}"),
            Mistake::UnknownWord(word, expected) => write!(f, "unknown value {word:?}, expected {expected:?}"),
            Mistake::Unexpected(expected) => write!(f, "expected {expected}"),
            Mistake::Other(said) => f.write_str(said),
        }
    }
}

impl std::error::Error for Located {}

impl Error for Located {
    fn custom<T: fmt::Display>(said: T) -> Located {
        Mistake::Other(said.to_string()).into()
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Located {
        Mistake::Unexpected(expected.to_string()).into()
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Located {
        Mistake::Unexpected(expected.to_string()).into()
    }

    fn invalid_length(_: usize, expected: &dyn Expected) -> Located {
        Mistake::Unexpected(expected.to_string()).into()
    }

    fn unknown_variant(word: &str, expected: &'static [&'static str]) -> Located {
        Mistake::UnknownWord(word.to_owned(), expected).into()
    }

    fn unknown_field(_: &str, expected: &'static [&'static str]) -> Located {
        Mistake::UnknownProperty(expected).into()
    }

    fn missing_field(name: &'static str) -> Located {
        Mistake::Missing(name).into()
    }
}

/// The elements of an array.
struct Elements<'v>(std::iter::Enumerate<slice::Iter<'v, Value>>);

impl<'de> SeqAccess<'de> for Elements<'de> {
    type Error = Located;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Located> {
        let Some((index, value)) = self.0.next() else { return Ok(None) };
        seed.deserialize(Json(value)).map(Some).map_err(|located| located.inside(Segment::Index(index)))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

/// The properties of an object.
struct Properties<'v> {
    rest: map::Iter<'v>,
    /// The property whose name was read last.
    current: Option<(&'v str, &'v Value)>,
}

impl<'de> MapAccess<'de> for Properties<'de> {
    type Error = Located;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Located> {
        self.current = self.rest.next().map(|(name, value)| (name.as_str(), value));
        let Some((name, _)) = self.current else { return Ok(None) };
        let key = seed.deserialize(BorrowedStrDeserializer::new(name)).map(Some);
        key.map_err(|located: Located| located.inside(Segment::Key(name.to_owned())))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Located> {
        let Some((name, value)) = self.current.take() else { return Err(Located::custom("a value without a name")) };
        seed.deserialize(Json(value)).map_err(|located| located.inside(Segment::Key(name.to_owned())))
    }
}

/// A value that is read.
#[derive(Clone, Copy)]
struct Json<'v>(&'v Value);

impl<'de> Deserializer<'de> for Json<'de> {
    type Error = Located;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Located> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(value), ..) => visitor.visit_u64(value),
                (None, Some(value), _) => visitor.visit_i64(value),
                (None, None, Some(value)) => visitor.visit_f64(value),
                (None, None, None) => Err(Mistake::Other(format!("{number} is out of range")).into()),
            },
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(list) => visitor.visit_seq(Elements(list.iter().enumerate())),
            Value::Object(object) => visitor.visit_map(Properties { rest: object.iter(), current: None }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Located> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Located> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Located> {
        match self.0 {
            Value::String(word) => visitor.visit_enum(word.as_str().into_deserializer()),
            _ => Err(Mistake::Unexpected("string or map".to_owned()).into()),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}
