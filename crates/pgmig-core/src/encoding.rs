//! Names in an archive are bytes in the encoding of the source database; the
//! target talks UTF-8.

use std::borrow::Cow;

/// Turns `bytes` in PostgreSQL's encoding `name` into text. Bytes that are not
/// valid in it become replacement characters: such a name then simply matches
/// nothing in the target, which the plan reports by name.
#[must_use]
pub fn decode(name: Option<&str>, bytes: &[u8]) -> String {
    if bytes.is_ascii() {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    match name.and_then(web_label) {
        // The web's Latin-1 is windows-1252; the real one is the first 256 code points.
        Some("iso-8859-1") => bytes.iter().map(|&byte| char::from(byte)).collect(),
        Some(label) => match encoding_rs::Encoding::for_label(label.as_bytes()) {
            Some(encoding) => encoding.decode_without_bom_handling(bytes).0.into_owned(),
            None => String::from_utf8_lossy(bytes).into_owned(),
        },
        None => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// The same without any replacement: `None` when `bytes` are not valid in that encoding, or it is not known here. What is
/// said to be in no encoding (`SQL_ASCII`) has to be UTF-8.
#[must_use]
pub(crate) fn decode_exactly<'a>(name: &str, bytes: &'a [u8]) -> Option<Cow<'a, str>> {
    if bytes.is_ascii() || ["UTF8", "UNICODE", "SQL_ASCII"].iter().any(|utf8| utf8.eq_ignore_ascii_case(name)) {
        return std::str::from_utf8(bytes).ok().map(Cow::Borrowed);
    }
    match web_label(name)? {
        "iso-8859-1" => Some(bytes.iter().map(|&byte| char::from(byte)).collect::<String>().into()),
        label => encoding_rs::Encoding::for_label(label.as_bytes())?
            .decode_without_bom_handling_and_without_replacement(bytes),
    }
}

/// The web's label for PostgreSQL's name of an encoding, for those whose names
/// differ by more than case and separators.
fn web_label(name: &str) -> Option<&'static str> {
    Some(match name.to_ascii_uppercase().as_str() {
        "LATIN1" => "iso-8859-1",
        "LATIN2" => "iso-8859-2",
        "LATIN3" => "iso-8859-3",
        "LATIN4" => "iso-8859-4",
        "LATIN5" => "iso-8859-9",
        "LATIN6" => "iso-8859-10",
        "LATIN7" => "iso-8859-13",
        "LATIN8" => "iso-8859-14",
        "LATIN9" => "iso-8859-15",
        "LATIN10" => "iso-8859-16",
        "ISO_8859_5" => "iso-8859-5",
        "ISO_8859_6" => "iso-8859-6",
        "ISO_8859_7" => "iso-8859-7",
        "ISO_8859_8" => "iso-8859-8",
        "WIN866" => "ibm866",
        "WIN874" => "windows-874",
        "WIN1250" => "windows-1250",
        "WIN1251" => "windows-1251",
        "WIN1252" => "windows-1252",
        "WIN1253" => "windows-1253",
        "WIN1254" => "windows-1254",
        "WIN1255" => "windows-1255",
        "WIN1256" => "windows-1256",
        "WIN1257" => "windows-1257",
        "WIN1258" => "windows-1258",
        "KOI8R" => "koi8-r",
        "KOI8U" => "koi8-u",
        "EUC_JP" | "EUC_JIS_2004" => "euc-jp",
        "EUC_KR" | "UHC" => "euc-kr",
        "EUC_CN" | "GBK" => "gbk",
        "GB18030" => "gb18030",
        "BIG5" => "big5",
        "SJIS" | "SHIFT_JIS_2004" => "shift_jis",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_decoded_exactly_or_not_at_all() {
        assert_eq!(decode_exactly("LATIN1", b"Gr\xf6\xdfe\x80").as_deref(), Some("Größe\u{80}"));
        assert_eq!(decode_exactly("utf8", "Größe".as_bytes()).as_deref(), Some("Größe"));
        assert_eq!(decode_exactly("UTF8", b"Gr\xf6\xdfe"), None);
        assert_eq!(decode_exactly("EUC_JP", b"\xff"), None);
        assert_eq!(decode_exactly("MULE_INTERNAL", "Größe".as_bytes()), None);
        assert_eq!(decode_exactly("MULE_INTERNAL", b"plain").as_deref(), Some("plain"));
    }

    #[test]
    fn names_are_decoded_by_the_encoding_of_the_archive() {
        assert_eq!(decode(Some("UTF8"), "Größe".as_bytes()), "Größe");
        assert_eq!(decode(Some("LATIN1"), b"Gr\xf6\xdfe\x80"), "Größe\u{80}");
        assert_eq!(decode(Some("LATIN9"), b"\xa4"), "€");
        assert_eq!(decode(Some("WIN1251"), b"\xc4\xe0"), "Да");
        assert_eq!(decode(None, b"plain"), "plain");
    }
}
