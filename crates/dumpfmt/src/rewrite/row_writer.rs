//! What a row becomes.

use memchr::memchr;

use crate::rows::{Field, Row, RowBatch, escape_field};

/// Takes the rows that are to stand in the new archive for those of the old one. A row that is
/// not written is left out.
///
/// Bytes that are written without being escaped here must be one row: with a newline in them, or as the line `\.` that
/// ends all rows, they end the rewrite with an error.
///
/// ```
/// use dumpfmt::{Row, RowWriter};
///
/// let mut out = Vec::new();
/// let mut rows = RowWriter::new(&mut out);
/// let row = Row::new(b"1\told\t\\N");
/// rows.row(row);
/// rows.replace_field(row, 1, Some(b"a\ttab"));
/// let mut fields = rows.fields();
/// fields.value(Some(b"2"));
/// fields.field(row.field(1).unwrap());
/// fields.value(None);
/// fields.finish();
/// assert_eq!(rows.count(), 3);
/// assert_eq!(out, b"1\told\t\\N\n1\ta\\ttab\t\\N\n2\told\t\\N\n");
/// ```
#[derive(Debug)]
pub struct RowWriter<'a> {
    out: &'a mut Vec<u8>,
    rows: u64,
    fault: Option<&'static str>,
}

impl<'a> RowWriter<'a> {
    /// Appends rows to `out`, each with its newline.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, rows: 0, fault: None }
    }

    /// A row as it is.
    pub fn row(&mut self, row: Row<'_>) {
        let start = self.out.len();
        self.out.extend_from_slice(row.raw());
        self.end_row(start);
    }

    /// Rows as they are.
    pub fn batch(&mut self, rows: RowBatch<'_>) {
        self.out.extend_from_slice(rows.raw());
        self.rows += rows.count();
    }

    /// A row with another value in the column at `index`, counted from 0; `None` is NULL. Where the row has no such
    /// column it stays as it is.
    pub fn replace_field(&mut self, row: Row<'_>, index: usize, value: Option<&[u8]>) {
        let mut fields = self.fields();
        for (place, field) in row.fields().enumerate() {
            if place == index { fields.value(value) } else { fields.field(field) }
        }
        fields.finish();
    }

    /// A row that is written field by field.
    pub fn fields(&mut self) -> FieldWriter<'_, 'a> {
        FieldWriter { start: self.out.len(), rows: self, is_first: true }
    }

    /// A row from bytes that are escaped as in COPY text, appended by `write`.
    pub fn raw<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let start = self.out.len();
        let result = write(self.out);
        self.end_row(start);
        result
    }

    /// How many rows were written.
    pub fn count(&self) -> u64 {
        self.rows
    }

    /// What is wrong with the rows that were written.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        self.fault
    }

    /// Ends the row that begins at `start`.
    fn end_row(&mut self, start: usize) {
        let row = self.out.get(start..).unwrap_or_default();
        if memchr(b'\n', row).is_some() {
            self.fault = Some("a row was written that has a newline in it");
        } else if row == b"\\." {
            self.fault = Some("the line `\\.` was written, which ends all rows");
        }
        self.out.push(b'\n');
        self.rows += 1;
    }
}

/// Takes the fields of one row, from the first to the last; see [`RowWriter::fields`].
#[derive(Debug)]
#[must_use = "the row is complete when it is finished"]
pub struct FieldWriter<'w, 'a> {
    rows: &'w mut RowWriter<'a>,
    start: usize,
    is_first: bool,
}

impl FieldWriter<'_, '_> {
    /// The next field, as it is in the old archive.
    pub fn field(&mut self, field: Field<'_>) {
        self.separate();
        self.rows.out.extend_from_slice(field.raw());
    }

    /// The next field: its value, which is escaped here, or `None` for NULL.
    pub fn value(&mut self, value: Option<&[u8]>) {
        self.separate();
        match value {
            Some(value) => escape_field(value, self.rows.out),
            None => self.rows.out.extend_from_slice(b"\\N"),
        }
    }

    /// Ends the row.
    pub fn finish(self) {
        self.rows.end_row(self.start);
    }

    fn separate(&mut self) {
        if !std::mem::take(&mut self.is_first) {
            self.rows.out.push(b'\t');
        }
    }
}
