//! What a browser sends to the pages: forms, and the languages that its user reads.

use domain::locale::Locale;

/// The largest form that is taken, in bytes: a hundred times what the pages' largest sends.
pub const MAX_FORM_BYTES: usize = 64 * 1024;
/// Fields of a form. The pages' own have two for each switch.
const MAX_FIELDS: usize = 2000;
/// Languages of a request that are looked at.
const MAX_LANGUAGES: usize = 16;

/// The fields of a form, in order.
pub type FormFields = Vec<(String, String)>;

/// Why a body is no form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormError {
    /// It is larger than 64 KiB.
    TooLarge,
    /// It is neither of the two kinds that browsers and mail readers send, or not one that can be read.
    Unreadable,
}

/// Reads a form by its `Content-Type`.
///
/// A page's form is sent as `application/x-www-form-urlencoded`; a mail reader's one-click request may as well be
/// `multipart/form-data` (RFC 8058, 3.2). Files are none of our fields.
///
/// # Errors
///
/// When the body is too large, or not such a form.
pub fn read_form(content_type: Option<&str>, body: &[u8]) -> Result<FormFields, FormError> {
    if body.len() > MAX_FORM_BYTES {
        return Err(FormError::TooLarge);
    }
    let content_type = content_type.unwrap_or_default();
    let (kind, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    let fields = match kind.trim().to_ascii_lowercase().as_str() {
        "application/x-www-form-urlencoded" => Some(url::form_urlencoded::parse(body).into_owned().collect()),
        "multipart/form-data" => read_parts(parameters, body),
        _ => None,
    };
    fields.filter(|fields: &FormFields| fields.len() <= MAX_FIELDS).ok_or(FormError::Unreadable)
}

/// The parts of a small `multipart/form-data` body (RFC 7578). The libraries for it read endless streams of files.
fn read_parts(parameters: &str, body: &[u8]) -> Option<FormFields> {
    let boundary = parameters.split(';').find_map(|parameter| read_parameter(parameter, "boundary"))?;
    if boundary.is_empty() || boundary.len() > 70 {
        return None;
    }
    // Each delimiter begins a line, and the first line may be one.
    let text = format!("\r\n{}", std::str::from_utf8(body).ok()?);
    let delimiter = format!("\r\n--{boundary}");
    let mut parts = text.split(delimiter.as_str()).skip(1);
    let mut fields = FormFields::new();
    loop {
        let part = parts.next()?;
        if part.starts_with("--") {
            return Some(fields);
        }
        let (head, value) = part.strip_prefix("\r\n")?.split_once("\r\n\r\n")?;
        let disposition = head.split("\r\n").find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-disposition").then_some(value)
        })?;
        let mut parameters = disposition.split(';').skip(1);
        let name = parameters.find_map(|parameter| read_parameter(parameter, "name"))?;
        fields.push((name.to_owned(), value.to_owned()));
    }
}

/// The value of `name=value` or `name="value"`, if the parameter is the named one.
fn read_parameter<'a>(parameter: &'a str, wanted: &str) -> Option<&'a str> {
    let (name, value) = parameter.split_once('=')?;
    let value = value.trim();
    let value = value.strip_prefix('"').and_then(|quoted| quoted.strip_suffix('"')).unwrap_or(value);
    name.trim().eq_ignore_ascii_case(wanted).then_some(value)
}

/// The languages of an `Accept-Language` header, the most wanted first (RFC 9110, 12.5.4).
/// What is no language, and what is not wanted at all, is left out.
pub fn read_languages(header: Option<&str>) -> Vec<Locale> {
    let mut wanted: Vec<(u16, Locale)> = Vec::new();
    for entry in header.unwrap_or_default().split(',').take(MAX_LANGUAGES) {
        let (tag, parameters) = entry.split_once(';').unwrap_or((entry, ""));
        let Ok(locale) = Locale::parse(tag.trim()) else { continue };
        let quality = parameters.split(';').find_map(|parameter| read_parameter(parameter, "q"));
        let quality = quality.map_or(Some(1000), read_quality);
        wanted.extend(quality.filter(|quality| *quality > 0).map(|quality| (quality, locale)));
    }
    // Stable: of two that are wanted as much, the first comes first.
    wanted.sort_by_key(|(quality, _)| std::cmp::Reverse(*quality));
    wanted.into_iter().map(|(_, locale)| locale).collect()
}

/// A quality from 0 to 1 with at most three decimals, in thousandths.
fn read_quality(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let thousandths: u16 = format!("{decimals:0<3}").parse().ok()?;
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URLENCODED: Option<&str> = Some("application/x-www-form-urlencoded");

    fn fields(pairs: &[(&str, &str)]) -> Result<FormFields, FormError> {
        Ok(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn a_one_click_request_is_read_in_either_form() {
        let one_click = fields(&[("List-Unsubscribe", "One-Click")]);
        assert_eq!(read_form(URLENCODED, b"List-Unsubscribe=One-Click"), one_click);
        let charset = Some("Application/X-WWW-Form-Urlencoded; charset=UTF-8");
        assert_eq!(read_form(charset, b"List-Unsubscribe=One%2DClick"), one_click);
        for (content_type, boundary) in [
            ("multipart/form-data; boundary=xyz", "xyz"),
            ("multipart/form-data; charset=utf-8; Boundary=\"----a b\"", "----a b"),
        ] {
            let body = format!(
                "--{boundary}\r\nContent-Type: text/plain\r\ncontent-disposition: form-data; \
                 name=\"List-Unsubscribe\"\r\n\r\nOne-Click\r\n--{boundary}--\r\n"
            );
            assert_eq!(read_form(Some(content_type), body.as_bytes()), one_click, "{content_type}");
        }
    }

    #[test]
    fn what_is_no_form_is_refused() {
        let multipart = Some("multipart/form-data; boundary=x");
        for (content_type, body) in [
            (None, "List-Unsubscribe=One-Click"),
            (Some("application/json"), "{}"),
            (Some("text/plain"), "List-Unsubscribe=One-Click"),
            (Some("multipart/form-data"), "--x--"),
            (multipart, ""),
            (multipart, "--x\r\n\r\nno head\r\n--x--"),
            (multipart, "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\ncut off"),
            (multipart, "--y\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nb\r\n--y--"),
        ] {
            assert_eq!(
                read_form(content_type, body.as_bytes()),
                Err(FormError::Unreadable),
                "{content_type:?} {body:?}"
            );
        }
        assert_eq!(
            read_form(multipart, b"--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n\xff\r\n--x--"),
            Err(FormError::Unreadable)
        );
        assert_eq!(read_form(URLENCODED, &vec![b'a'; MAX_FORM_BYTES + 1]), Err(FormError::TooLarge));
        assert_eq!(read_form(URLENCODED, "a=1&".repeat(MAX_FIELDS + 1).as_bytes()), Err(FormError::Unreadable));
        assert_eq!(read_form(URLENCODED, b""), fields(&[]));
    }

    #[test]
    fn the_most_wanted_language_comes_first() {
        for (header, wanted) in [
            (None, vec![]),
            (Some(""), vec![]),
            (Some("hi-IN,hi;q=0.9,en;q=0.8"), vec!["hi-IN", "hi", "en"]),
            (Some("en;q=0.5, de ; q=0.75 ,fr;q=0"), vec!["de", "en"]),
            (Some("*, ta;q=1.0, te;q=1.000"), vec!["ta", "te"]),
            (Some("de;q=2, fr;q=0.1234, es;q=x, bn"), vec!["bn"]),
        ] {
            let found: Vec<_> = read_languages(header).iter().map(ToString::to_string).collect();
            assert_eq!(found, wanted, "{header:?}");
        }
        assert_eq!(read_languages(Some(&"de,".repeat(1000))).len(), MAX_LANGUAGES);
    }
}
