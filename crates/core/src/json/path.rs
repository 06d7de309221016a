//! The path of a part of JSON text.

use serde_json::value::RawValue;

use super::{RawObject, excerpt};

/// Returns the path of `part`, a slice of the well-formed JSON text `json`, whose own path is `root`: `$.a.b[2]`.
pub fn path_of(json: &str, part: &str, root: &str) -> String {
    let position = part.as_ptr() as usize;
    let has_part = |value: &&RawValue| {
        let value = value.get().as_bytes().as_ptr_range();
        (value.start as usize..value.end as usize).contains(&position)
    };
    let (mut path, mut json) = (root.to_owned(), json);
    loop {
        let field = serde_json::from_str::<RawObject<'_>>(json).ok().and_then(|object| {
            let found = object.iter().find(|(_, value)| has_part(value));
            found.map(|(name, value)| (format!(".{}", excerpt(name)), value))
        });
        let inner = field.or_else(|| {
            let items = serde_json::from_str::<Vec<&RawValue>>(json).ok()?;
            let index = items.iter().position(has_part)?;
            Some((format!("[{index}]"), items[index]))
        });
        let Some((step, value)) = inner else { return path };
        path.push_str(&step);
        json = value.get();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_has_the_path_of_the_value_that_it_is_in() {
        let json = r#" {"a": [1, {"b\u0062": [true, 9007199254740993]}], "c": 1e999}"#;
        for (part, path) in
            [("9007199254740993", "$.x.a[1].bb[1]"), ("1e999", "$.x.c"), ("true", "$.x.a[1].bb[0]")]
        {
            let at = json.find(part).unwrap();
            assert_eq!(path_of(json, &json[at..at + part.len()], "$.x"), path);
        }
        assert_eq!(path_of("7", "elsewhere", "$"), "$");
    }
}
