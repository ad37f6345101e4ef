//! Whether a JSON value fits a schema of the OpenAPI document: the words that our schemas use, and no others.

use serde_json::Value;

/// Why `value` does not fit `schema`, if it does not. Panics at a word it does not know, rather than let it pass.
pub(crate) fn misfit(document: &Value, schema: &Value, value: &Value) -> Option<String> {
    if let Some(all) = schema.as_bool() {
        return (!all).then(|| format!("nothing may be here, and there is {value}"));
    }
    let schema = schema.as_object().unwrap_or_else(|| panic!("{schema} is no schema"));
    schema.iter().find_map(|(word, rule)| judge(document, word, rule, schema, value))
}

fn judge(
    document: &Value,
    word: &str,
    rule: &Value,
    schema: &serde_json::Map<String, Value>,
    value: &Value,
) -> Option<String> {
    let wrong = || Some(format!("{value:.200} does not fit {word} {rule:.200}"));
    match word {
        "$ref" => {
            let pointer = rule.as_str().unwrap().strip_prefix('#').unwrap();
            misfit(
                document,
                document.pointer(pointer).unwrap_or_else(|| panic!("{pointer} is nowhere")),
                value,
            )
        }
        "type" => {
            let fits = |kind: &str| match kind {
                "null" => value.is_null(),
                "boolean" => value.is_boolean(),
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "number" => value.is_number(),
                "integer" => value.is_i64() || value.is_u64(),
                other => panic!("{other} is no type"),
            };
            let kinds = rule.as_array().map_or_else(|| vec![rule], |kinds| kinds.iter().collect());
            if kinds.iter().any(|kind| fits(kind.as_str().unwrap())) { None } else { wrong() }
        }
        "const" => (value != rule).then(wrong).flatten(),
        "enum" => (!rule.as_array().unwrap().contains(value)).then(wrong).flatten(),
        "anyOf" | "oneOf" => {
            let fitting =
                rule.as_array().unwrap().iter().filter(|one| misfit(document, one, value).is_none()).count();
            let enough = if word == "oneOf" { fitting == 1 } else { fitting > 0 };
            if enough { None } else { wrong() }
        }
        "required" => rule.as_array().unwrap().iter().find_map(|name| {
            let name = name.as_str().unwrap();
            value.get(name).is_none().then(|| format!("{name} is missing in {value:.200}"))
        }),
        "properties" => rule.as_object().unwrap().iter().find_map(|(name, rule)| {
            let found = value.get(name)?;
            misfit(document, rule, found).map(|why| format!("{name}: {why}"))
        }),
        "additionalProperties" => {
            let known = schema.get("properties").and_then(Value::as_object);
            let others = value
                .as_object()?
                .iter()
                .filter(|(name, _)| known.is_none_or(|known| !known.contains_key(*name)));
            others
                .into_iter()
                .find_map(|(name, found)| misfit(document, rule, found).map(|why| format!("{name}: {why}")))
        }
        "items" => value.as_array()?.iter().find_map(|item| misfit(document, rule, item)),
        "minimum" => (value.as_f64()? < rule.as_f64().unwrap()).then(wrong).flatten(),
        "maximum" => (value.as_f64()? > rule.as_f64().unwrap()).then(wrong).flatten(),
        "minLength" => {
            (value.as_str()?.len() < usize::try_from(rule.as_u64().unwrap()).unwrap()).then(wrong).flatten()
        }
        "maxLength" => {
            (value.as_str()?.len() > usize::try_from(rule.as_u64().unwrap()).unwrap()).then(wrong).flatten()
        }
        // The pattern of each name is tested beside the names.
        "pattern" | "description" | "title" | "default" | "format" => None,
        other => panic!("this test does not know the word {other}"),
    }
}
