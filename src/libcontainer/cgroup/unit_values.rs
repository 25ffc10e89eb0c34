//! The properties of a unit in the form that they have on D-Bus.

use zbus::Variant;
use zbus::wire::{Array, Dict, Signature, StructureBuilder};

use crate::error::{Context, Error, Kind, Result, bail, error};
use crate::plan::resources::unit::{Property, PropertyValue};

/// The name of a property, and its value.
pub(super) fn with_variant(property: &Property) -> Result<(&str, Variant<'_>)> {
    let value = variant(&property.value).with_context(|| format!("unit property {}", property.name))?;
    Ok((property.name.as_str(), value))
}

fn signature_of(text: &str) -> Result<Signature> {
    Signature::try_from(text).map_err(|error| error!(Kind::Systemd => "{text:?} is not a signature: {error}"))
}

fn variant(value: &PropertyValue) -> Result<Variant<'_>> {
    Ok(match value {
        PropertyValue::Bool(value) => Variant::from(*value),
        PropertyValue::Int32(value) => Variant::from(*value),
        PropertyValue::Int64(value) => Variant::from(*value),
        PropertyValue::Uint32(value) => Variant::from(*value),
        PropertyValue::Uint64(value) => Variant::from(*value),
        PropertyValue::Double(value) => Variant::from(*value),
        PropertyValue::Text(value) => Variant::from(value.as_str()),
        PropertyValue::Bytes(value) => Variant::from(value.clone()),
        PropertyValue::Texts(value) => Variant::from(value.iter().map(String::as_str).collect::<Vec<_>>()),
        PropertyValue::Rates(value) => {
            Variant::from(value.iter().map(|(device, rate)| (device.as_str(), *rate)).collect::<Vec<_>>())
        }
        PropertyValue::Devices(value) => {
            Variant::from(value.iter().map(|(device, how)| (device.as_str(), how.as_str())).collect::<Vec<_>>())
        }
        PropertyValue::Byte(value) => Variant::from(*value),
        PropertyValue::Int16(value) => Variant::from(*value),
        PropertyValue::Uint16(value) => Variant::from(*value),
        PropertyValue::Name('o', path) => Variant::from(zbus::ObjectPath::try_from(path.as_str())?),
        PropertyValue::Name(_, signature) => Variant::from(signature_of(signature)?),
        PropertyValue::Inner(value) => Variant::Variant(Box::new(variant(value)?)),
        PropertyValue::List(signature, values) => {
            let mut array = Array::new(&signature_of(signature)?);
            values.iter().try_for_each(|value| array.append(variant(value)?).map_err(Error::from))?;
            Variant::Array(array)
        }
        PropertyValue::Tuple(values) => {
            let mut fields = StructureBuilder::new();
            for value in values {
                fields.push_value(variant(value)?);
            }
            Variant::Structure(fields.build()?)
        }
        PropertyValue::Dict(signature, pairs) => {
            let Signature::Dict { key, value } = signature_of(signature)? else {
                bail!(Kind::Systemd => "{signature:?} is not the signature of a dictionary")
            };
            let mut dict = Dict::new(key.signature(), value.signature());
            pairs
                .iter()
                .try_for_each(|(key, value)| dict.append(variant(key)?, variant(value)?).map_err(Error::from))?;
            Variant::Dict(dict)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_a_form_on_the_bus() {
        let text = |text: &str| PropertyValue::Text(text.to_owned());
        let dict = vec![(text("a"), PropertyValue::Inner(Box::new(PropertyValue::Byte(1))))];
        let cases = [
            (PropertyValue::Int16(-1), "n"),
            (PropertyValue::Uint16(1), "q"),
            (PropertyValue::Name('o', "/a".to_owned()), "o"),
            (PropertyValue::Name('g', "a{sv}".to_owned()), "g"),
            (
                PropertyValue::List(
                    "(st)".to_owned(),
                    vec![PropertyValue::Tuple(vec![text("a"), PropertyValue::Uint64(1)])],
                ),
                "a(st)",
            ),
            (PropertyValue::List("(st)".to_owned(), vec![]), "a(st)"),
            (PropertyValue::Dict("a{sv}".to_owned(), dict), "a{sv}"),
            (PropertyValue::Bytes(vec![1]), "ay"),
        ];
        for (value, expected) in cases {
            assert_eq!(variant(&value).unwrap().value_signature().to_string(), expected, "{value:?}");
        }
        for bad in [PropertyValue::Name('o', "a".to_owned()), PropertyValue::Name('g', "z".to_owned())] {
            assert!(variant(&bad).is_err(), "{bad:?}");
        }
    }
}
