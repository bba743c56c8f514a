//! The names of a struct's fields, as serde knows them: the keys of a table are written down once, in its struct.
//!
//! A derived `Deserialize` announces its fields before it asks for data; that announcement is all that is read here.

use serde::Deserialize;
use serde::de::value::Error;
use serde::de::{Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;

/// The keys that a struct with a derived `Deserialize` understands; none for other types.
pub(crate) fn fields_of<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut fields: &'static [&'static str] = &[];
    // No data is ever handed over, so this always ends in an error.
    let _ = T::deserialize(Announcement(&mut fields));
    fields
}

struct Announcement<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Announcement<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("it is no struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        *self.0 = fields;
        Err(Error::custom("the fields are known"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Table {
        #[serde(default)]
        #[expect(dead_code, reason = "only its name is read")]
        first: Option<u64>,
        #[serde(rename = "other")]
        #[expect(dead_code, reason = "only its name is read")]
        second: Vec<String>,
    }

    #[test]
    fn the_fields_of_a_struct_are_its_keys_as_written_in_files() {
        assert_eq!(fields_of::<Table>(), ["first", "other"]);
        assert_eq!(fields_of::<u64>(), [""; 0]);
    }
}
