//! The same questions about IDs that the remapping answers for rows, as SQL.

use crate::id_columns::{IdColumn, IdForm};
use crate::instance_id::InstanceId;
use crate::names::{quote_always, sql_literal};

/// A condition on the table alias `alias`: the column names one of `ids`.
/// `ids` must not be empty.
pub(crate) fn names_one_of(alias: &str, column: &IdColumn, ids: &[&InstanceId]) -> String {
    let value = format!("{alias}.{}", quote_always(&column.column.column));
    let list = |ids: &mut dyn Iterator<Item = &InstanceId>| {
        ids.map(|id| sql_literal(id.as_str())).collect::<Vec<_>>().join(", ")
    };
    // UUIDs compare without regard to case, as everywhere; other IDs as they are.
    let uuids = list(&mut ids.iter().copied().filter(|id| id.uuid().is_some()));
    let texts = list(&mut ids.iter().copied().filter(|id| id.uuid().is_none()));
    let is_one = |text: &str| match (uuids.is_empty(), texts.is_empty()) {
        (false, true) => format!("lower({text}) = any (array[{uuids}])"),
        (true, _) => format!("{text} = any (array[{texts}])"),
        (false, false) => format!("(lower({text}) = any (array[{uuids}]) or {text} = any (array[{texts}]))"),
    };
    match &column.form {
        IdForm::Value => is_one(&format!("{value}::text")),
        IdForm::Array => format!("exists (select from unnest({value}::text[]) as e (id) where {})", is_one("e.id")),
        IdForm::Json(path) => format!(
            "exists (select from jsonb_path_query({}, {}, '{{}}', true) as e (id) where {})",
            as_jsonb(&value),
            sql_literal(&path.to_string()),
            is_one("(e.id #>> '{}')")
        ),
        IdForm::Anywhere => {
            // Only UUIDs: another ID can be part of its own successor, as `acme` is of `acme-2`.
            let uuids = ids.iter().filter_map(|id| id.uuid());
            let patterns = uuids.flat_map(|uuid| [uuid.hyphenated().to_string(), uuid.simple().to_string()]);
            let likes = patterns.map(|text| sql_literal(&format!("%{text}%"))).collect::<Vec<_>>();
            if likes.is_empty() {
                return "false".to_owned();
            }
            format!("lower({value}::text) like any (array[{}])", likes.join(", "))
        }
    }
}

/// A document as `jsonb`, which has no place for `\u0000` nor for what the database's encoding lacks:
/// `json` keeps such escapes as text. They are taken out, since no ID is written with one.
fn as_jsonb(value: &str) -> String {
    let escapes = sql_literal(r"(\\\\)|\\u[0-9a-fA-F]{4}");
    let without = format!("regexp_replace({value}::text, {escapes}, {}, 'g')::jsonb", sql_literal(r"\1"));
    format!("case when pg_typeof({value}) = 'jsonb'::regtype then {value}::jsonb else {without} end")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::TableName;

    #[test]
    fn names_and_ids_are_quoted() {
        let id: InstanceId = "it's".parse().unwrap();
        let column = TableName::new("public", "t").column("a\"b");
        let id_column = |form| IdColumn { column: column.clone(), form, reason: String::new(), owns_rows: true };
        let sql = names_one_of("t", &id_column(IdForm::Value), &[&id]);
        assert!(sql.contains("t.\"a\"\"b\"::text") && sql.contains("array['it''s']"), "{sql}");
        assert_eq!(names_one_of("t", &id_column(IdForm::Anywhere), &[&id]), "false");
    }
}
