//! Reads JSON without loss: a repeated key in an object is an error, and values remain the text that was sent.

mod path;
mod scan;
mod text;

use std::{borrow::Cow, collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value, value::RawValue};

pub use self::{
    path::path_of,
    scan::{first_inexact_number, nesting_depth},
    text::{error_offset, error_text, excerpt, for_messages, is_noncharacter},
};

/// The fields of one JSON object in the order sent, each value as the bytes that were sent.
///
/// A repeated key is an error: two readers of the same record could otherwise see different values.
#[derive(Debug)]
pub struct RawObject<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> RawObject<'a> {
    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| *value)
    }

    /// All fields, in the order sent.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), *value))
    }
}

impl<'de> Deserialize<'de> for RawObject<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;
        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = RawObject<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::new();
                // A set keeps the check fast: the object comes from a producer and may have a million keys.
                let mut seen: HashSet<Cow<'de, str>> = HashSet::new();
                while let Some(Text(key)) = map.next_key()? {
                    if !seen.insert(key.clone()) {
                        return Err(duplicate_key(&key));
                    }
                    fields.push((key, map.next_value()?));
                }
                Ok(RawObject(fields))
            }
        }
        deserializer.deserialize_map(ObjectVisitor)
    }
}

/// A JSON string that borrows from the input if it has no escapes.
///
/// It is a separate type, because serde borrows a `Cow` only if the `Cow` is the field itself, not if it is inside an
/// `Option`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

fn duplicate_key<E: de::Error>(key: &str) -> E {
    E::custom(format_args!("duplicate key `{}`", excerpt(key)))
}

/// A JSON value in which no object, at any depth, repeats a key.
#[derive(Debug)]
pub struct UniqueValue(pub Value);

impl<'de> Deserialize<'de> for UniqueValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Self)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(UniqueValue(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(duplicate_key(&key));
            }
            let UniqueValue(value) = map.next_value()?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_values_are_the_bytes_that_were_sent() {
        let object: RawObject<'_> =
            serde_json::from_str(r#"{"a" : 1.50e1, "b\u0063": {"x":[ 1,2 ]}}"#).unwrap();
        assert_eq!(object.get("a").unwrap().get(), "1.50e1");
        assert_eq!(object.get("bc").unwrap().get(), r#"{"x":[ 1,2 ]}"#);
        assert!(object.get("c").is_none());
    }

    #[test]
    fn a_repeated_key_is_an_error_at_any_depth() {
        for text in [r#"{"a":1,"a":2}"#, r#"{"a":1,"\u0061":2}"#] {
            assert!(
                serde_json::from_str::<RawObject<'_>>(text)
                    .unwrap_err()
                    .to_string()
                    .contains("duplicate key `a`")
            );
        }
        let nested = serde_json::from_str::<UniqueValue>(r#"[{"x":{"a":1,"a":1}}]"#).unwrap_err();
        assert!(nested.to_string().contains("duplicate key `a`"));
    }

    #[test]
    fn many_keys_are_read_in_linear_time() {
        let fields: Vec<_> = (0..200_000).map(|i| format!("\"k{i}\":1")).collect();
        let text = format!("{{{}}}", fields.join(","));
        assert_eq!(serde_json::from_str::<RawObject<'_>>(&text).unwrap().iter().count(), 200_000);
    }
}
