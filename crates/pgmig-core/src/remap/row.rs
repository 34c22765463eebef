//! The IDs in one row, and the row with them replaced.

use std::borrow::Cow;
use std::ops::Range;

use dumpfmt::{Field, Row};

use crate::id_columns::{IdColumn, IdForm};
use crate::remap::ids::{Fate, IdMap, Spelling};
use crate::remap::literal::{array_elements, locate};

/// Finds and replaces the IDs in the rows of one table.
#[derive(Debug)]
pub(crate) struct RowRemapper<'a> {
    ids: &'a IdMap,
    /// The ID columns by their place in the row, in order; a column can occur
    /// more than once, with several JSON paths.
    columns: Vec<(usize, &'a IdColumn)>,
    spans: Vec<Span>,
    /// Values of ID columns that are no ID of the source: the place of the column, and where in the row.
    unknown: Vec<(usize, Range<usize>)>,
}

/// An ID in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    /// Where in the raw row.
    pub(crate) range: Range<usize>,
    /// Which of the IDs of the [`IdMap`].
    pub(crate) id: usize,
    spelling: Spelling,
    /// Whether the row is the tenant's because of it. An ID somewhere in a text
    /// only mentions the tenant.
    pub(crate) owns: bool,
}

/// A value in which IDs cannot be looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RowError {
    /// The place of the column in the row.
    pub(crate) column: usize,
    /// What is wrong with the value.
    pub(crate) why: String,
}

impl<'a> RowRemapper<'a> {
    pub(crate) fn new(ids: &'a IdMap, mut columns: Vec<(usize, &'a IdColumn)>) -> Self {
        columns.sort_by_key(|&(place, _)| place);
        Self { ids, columns, spans: Vec::new(), unknown: Vec::new() }
    }

    /// The IDs in the ID columns of `row`, in order.
    pub(crate) fn find(&mut self, row: Row<'_>) -> Result<(), RowError> {
        self.spans.clear();
        self.unknown.clear();
        let mut columns = self.columns.iter().peekable();
        let mut start = 0;
        for (place, field) in row.fields().enumerate() {
            if columns.peek().is_none() {
                break;
            }
            while let Some(&(_, column)) = columns.next_if(|&&(wanted, _)| wanted == place) {
                let before = self.spans.len();
                let unknown = &mut |range: Range<usize>| {
                    self.unknown.push((place, range.start + start..range.end + start));
                };
                find_in_field(self.ids, field, &column.form, &mut self.spans, unknown)
                    .map_err(|why| RowError { column: place, why })?;
                for span in &mut self.spans[before..] {
                    span.range = span.range.start + start..span.range.end + start;
                    span.owns &= column.owns_rows;
                }
            }
            start += field.raw().len() + 1;
        }
        // Two paths into one document may have found their strings in any order.
        self.spans.sort_by_key(|span| span.range.start);
        self.spans.dedup_by(|b, a| a.range == b.range);
        Ok(())
    }

    /// What [`find`](Self::find) found last.
    pub(crate) fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// The values of ID columns that [`find`](Self::find) did not know.
    pub(crate) fn unknown(&self) -> &[(usize, Range<usize>)] {
        &self.unknown
    }

    /// Appends `row` with its IDs replaced and a newline to `out`; false, and
    /// nothing appended, when the row is left out.
    pub(crate) fn remap(&mut self, row: Row<'_>, out: &mut Vec<u8>) -> Result<bool, RowError> {
        self.find(row)?;
        if self.spans.iter().any(|span| self.leaves_out(span)) {
            return Ok(false);
        }
        self.put(row, out);
        out.push(b'\n');
        Ok(true)
    }

    /// Appends the row that [`find`](Self::find) was called with last, its IDs replaced.
    pub(crate) fn put(&self, row: Row<'_>, out: &mut Vec<u8>) {
        let raw = row.raw();
        let mut copied = 0;
        for span in &self.spans {
            if let Some(text) = self.ids.replacement(span.id, span.spelling) {
                out.extend_from_slice(&raw[copied..span.range.start]);
                out.extend_from_slice(text.as_bytes());
                copied = span.range.end;
            }
        }
        out.extend_from_slice(&raw[copied..]);
    }

    /// Whether the row that holds `span` is left out because of it.
    pub(crate) fn leaves_out(&self, span: &Span) -> bool {
        span.owns && *self.ids.fate(span.id) == Fate::LeftOut
    }
}

fn find_in_field(
    ids: &IdMap,
    field: Field<'_>,
    form: &IdForm,
    spans: &mut Vec<Span>,
    unknown: &mut impl FnMut(Range<usize>),
) -> Result<(), String> {
    let raw = field.raw();
    let whole = |range: Range<usize>, id| Span { range, id, spelling: Spelling::Plain, owns: true };
    let mut each = |places: Option<Vec<Range<usize>>>| match places {
        Some(places) => {
            for range in places {
                match ids.lookup(&raw[range.clone()]) {
                    Some(id) => spans.push(whole(range, id)),
                    None if raw[range.clone()].eq_ignore_ascii_case(b"NULL") => {}
                    None => unknown(range),
                }
            }
            Ok(())
        }
        None => Err("it has escapes that pg_dump does not write".to_owned()),
    };
    match form {
        IdForm::Value => match ids.lookup(raw) {
            Some(id) => spans.push(whole(0..raw.len(), id)),
            None if field.is_null() => {}
            None => unknown(0..raw.len()),
        },
        IdForm::Array => {
            let places = locate(field, |value| Ok::<_, std::convert::Infallible>(array_elements(value)));
            let Ok(places) = places;
            each(places)?;
        }
        IdForm::Json(path) => {
            let places = locate(field, |value| path.strings(&as_text(value)));
            each(places.map_err(|e| format!("it is not JSON: {e}"))?)?;
        }
        IdForm::Anywhere => match ids.lookup(raw) {
            Some(id) => spans.push(whole(0..raw.len(), id)),
            None => spans.extend(ids.occurrences(raw).map(|found| Span {
                range: found.range,
                id: found.id,
                spelling: found.spelling,
                owns: false,
            })),
        },
    }
    Ok(())
}

/// The value as text of the same length. In an encoding other than UTF-8 what is
/// not ASCII becomes question marks, which changes no position and no structure.
fn as_text(value: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(value) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => {
            value.iter().map(|&byte| if byte.is_ascii() { char::from(byte) } else { '?' }).collect::<String>().into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "e10001eb-6272-453a-bb43-3dcf0e765892";
    const B: &str = "00000000-0000-0000-0000-001570184978";
    const C: &str = "11111111-1111-1111-1111-111111111111";

    fn ids() -> IdMap {
        let id = |text: &str| text.parse().unwrap();
        IdMap::new(vec![(id(A), Fate::Becomes(id(B))), (id(C), Fate::LeftOut)])
    }

    fn remap(forms: &[(usize, IdForm)], row: &str) -> Result<Option<String>, RowError> {
        let ids = ids();
        let mut out = Vec::new();
        let id_column = |form: &IdForm| IdColumn {
            column: crate::names::TableName::new("public", "t").column("c"),
            form: form.clone(),
            reason: String::new(),
            owns_rows: true,
        };
        let columns: Vec<_> = forms.iter().map(|(place, form)| (*place, id_column(form))).collect();
        let columns = columns.iter().map(|(place, column)| (*place, column)).collect();
        let kept = RowRemapper::new(&ids, columns).remap(Row::new(row.as_bytes()), &mut out)?;
        Ok(kept.then(|| String::from_utf8(out).unwrap()))
    }

    fn remapped(forms: &[(usize, IdForm)], row: &str) -> String {
        remap(forms, row).unwrap().unwrap()
    }

    #[test]
    fn only_the_id_columns_change() {
        let row = format!("{A}\t{A}\t\\N\t{A}");
        assert_eq!(remapped(&[(0, IdForm::Value), (3, IdForm::Value)], &row), format!("{B}\t{A}\t\\N\t{B}\n"));
        assert_eq!(remapped(&[], &row), format!("{row}\n"));
        assert_eq!(remapped(&[(9, IdForm::Value)], &row), format!("{row}\n"));
    }

    #[test]
    fn the_whole_value_must_be_the_id() {
        let row = format!("x{A}\t{}", A.to_uppercase());
        assert_eq!(remapped(&[(0, IdForm::Value), (1, IdForm::Value)], &row), format!("x{A}\t{B}\n"));
    }

    #[test]
    fn arrays_and_documents_keep_everything_else() {
        let row = format!(r#"{{{A},"{A}",NULL,"a\\"b"}}	{{"n": 1.50, "a" : {{"id":"{A}", "t":"x\\n{A}"}}}}"#);
        let path = IdForm::Json("$.a.id".parse().unwrap());
        let expected = format!(r#"{{{B},"{B}",NULL,"a\\"b"}}	{{"n": 1.50, "a" : {{"id":"{B}", "t":"x\\n{A}"}}}}"#);
        assert_eq!(remapped(&[(0, IdForm::Array), (1, path)], &row), format!("{expected}\n"));
    }

    #[test]
    fn anywhere_replaces_within_text() {
        let row = format!("https://h/{A}/{}?x={C}", A.replace('-', ""));
        let expected = format!("https://h/{B}/{}?x={C}\n", B.replace('-', ""));
        assert_eq!(remapped(&[(0, IdForm::Anywhere)], &row), expected);
    }

    #[test]
    fn a_row_of_a_tenant_that_is_left_out_is_left_out() {
        for (form, row) in [
            (IdForm::Value, C.to_owned()),
            (IdForm::Array, format!("{{{A},{C}}}")),
            (IdForm::Anywhere, C.to_owned()),
            (IdForm::Json("$".parse().unwrap()), format!("\"{C}\"")),
        ] {
            assert_eq!(remap(&[(0, form)], &row), Ok(None), "{row}");
        }
    }

    #[test]
    fn a_document_that_is_none_is_an_error_and_null_is_not() {
        let path = IdForm::Json("$.a".parse().unwrap());
        assert_eq!(remap(&[(1, path.clone())], "1\t{oops").unwrap_err().column, 1);
        assert_eq!(remapped(&[(1, path)], "1\t\\N"), "1\t\\N\n");
    }
}
