//! Reads config.json field by field: published names, published defaults, errors that name the field.

use serde_json::Value;

/// Why a config gives no figures; a sentence without full stop, and the field at fault if one is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    pub field: Option<String>,
    pub message: String,
}

impl Unknown {
    pub(super) fn of(field: &str, message: String) -> Unknown {
        Unknown { field: Some(field.into()), message }
    }
}

/// Largest size that is believed; what is above it is a mistake and would overflow.
const LARGEST: u64 = 1 << 24;

/// Most layers, heads and experts that are believed.
const MOST: u64 = 1024;

/// The fields of a config.json.
pub(super) struct Fields<'a>(pub &'a Value);

impl Fields<'_> {
    /// Returns a size; `default` where the config does not have it.
    pub fn size(&self, name: &str, default: u64) -> Result<u64, Unknown> {
        Ok(self.optional(name, Some(default))?.unwrap_or(default))
    }

    /// Returns a size that may be null, which is not the same as absent: that is the default.
    pub fn optional(&self, name: &str, default: Option<u64>) -> Result<Option<u64>, Unknown> {
        match self.0.get(name) {
            None => Ok(default),
            Some(Value::Null) => Ok(None),
            Some(value) => match value.as_u64() {
                Some(size) if (1..=LARGEST).contains(&size) => Ok(Some(size)),
                Some(_) | None => Err(self.wrong(name, &format!("a whole number from 1 to {LARGEST}"))),
            },
        }
    }

    /// Returns a number of layers, heads or experts.
    pub fn count(&self, name: &str, default: u64) -> Result<u64, Unknown> {
        match self.size(name, default)? {
            count if count <= MOST => Ok(count),
            _ => Err(self.wrong(name, &format!("at most {MOST}"))),
        }
    }

    /// Returns the count under the first of the names that the config has.
    pub fn first_of(&self, names: &[&str], default: u64) -> Result<u64, Unknown> {
        let name = names.iter().copied().find(|name| self.has(name)).unwrap_or(names[0]);
        self.count(name, default)
    }

    pub fn flag(&self, name: &str, default: bool) -> Result<bool, Unknown> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(name, "true or false")),
        }
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    /// Returns the fields of a field that is an object; without any when it is absent.
    pub fn object(&self, name: &str) -> Fields<'_> {
        Fields(self.0.get(name).unwrap_or(&Value::Null))
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| !value.is_null())
    }

    pub fn wrong(&self, name: &str, wanted: &str) -> Unknown {
        let is = self.0.get(name).map_or("absent".to_owned(), Value::to_string);
        Unknown::of(name, format!("`{name}` must be {wanted}, but is {is}"))
    }

    /// Returns `hidden / heads`, which must come out even.
    pub fn head_dim(&self, hidden: (&str, u64), heads: (&str, u64)) -> Result<u64, Unknown> {
        match hidden.1 % heads.1 {
            0 => Ok(hidden.1 / heads.1),
            _ => Err(Unknown::of(
                hidden.0,
                format!("`{}` ({}) must be a multiple of `{}` ({})", hidden.0, hidden.1, heads.0, heads.1),
            )),
        }
    }
}
