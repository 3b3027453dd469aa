//! Where links of finished HTML lead: only to schemes that a mail needs.
//!
//! Escaping does not stop `javascript:`, which has nothing to escape, so the finished part is looked at in each render.

use super::html::{Piece, Pieces, attribute, attributes, decode};

/// Why an HTML part with another scheme is refused; the link itself can be data and is not quoted.
pub(crate) const FORBIDDEN: &str =
    "a link may lead to http, https, mailto, tel, sms, cid, an anchor or a relative address only";

/// Where a link may lead; a link without a scheme is relative or an anchor.
const SCHEMES: [&str; 6] = ["http", "https", "mailto", "tel", "sms", "cid"];

/// Attributes that a reader follows or loads.
const LINKS: [&str; 16] = [
    "href",
    "src",
    "action",
    "formaction",
    "background",
    "poster",
    "xlink:href",
    "data",
    "cite",
    "longdesc",
    "lowsrc",
    "dynsrc",
    "manifest",
    "codebase",
    "ping",
    "icon",
];

/// Whether a link of the HTML leads where no link of a mail may.
pub(super) fn has_forbidden_link(html: &str) -> bool {
    find_forbidden_link(html).is_some()
}

/// The byte where the first tag begins whose link leads where no link of a mail may.
///
/// What stands in a conditional comment counts too: Outlook shows it.
pub(crate) fn find_forbidden_link(html: &str) -> Option<usize> {
    let mut pieces = Pieces::with_conditions(html);
    loop {
        match pieces.next()? {
            Piece::Open { name, attributes: text } if is_forbidden(name, text) => {
                // The name is a piece of the HTML, one byte behind its `<`.
                return Some(name.as_ptr() as usize - html.as_ptr() as usize - 1);
            }
            _ => {}
        }
    }
}

/// Whether the HTML has a link that most readers show and that leads to an address, or to one that begins with it.
///
/// What is no part of the HTML in any form costs one look: the end of an address, such as a token, is never escaped.
pub(super) fn leads_to(html: &str, address: &str) -> bool {
    let end = address.rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_').next().unwrap_or(address);
    html.contains(end)
        && Pieces::of(html).any(|piece| match piece {
            Piece::Open { name, attributes } if ["a", "area"].iter().any(|link| name.eq_ignore_ascii_case(link)) => {
                attribute(attributes, "href").is_some_and(|href| decode(href).trim().starts_with(address))
            }
            _ => false,
        })
}

fn is_forbidden(tag: &str, text: &str) -> bool {
    attributes(text).any(|(name, value)| {
        if name.eq_ignore_ascii_case("srcset") {
            return decode(value).split(',').any(|candidate| !is_allowed(candidate));
        }
        if name.eq_ignore_ascii_case("content") && tag.eq_ignore_ascii_case("meta") {
            return refresh_target(&decode(value)).is_some_and(|target| !is_allowed(target));
        }
        LINKS.iter().any(|link| name.eq_ignore_ascii_case(link)) && !is_allowed(&decode(value))
    })
}

/// Where `<meta http-equiv="refresh" content="0; url=…">` leads.
fn refresh_target(content: &str) -> Option<&str> {
    let at = content.to_ascii_lowercase().find("url=")?;
    Some(content[at + "url=".len()..].trim_start_matches(['\'', '"', ' ']))
}

/// Whether a link has no scheme or an allowed one.
fn is_allowed(link: &str) -> bool {
    // Readers skip white space and control characters in front of and inside a scheme.
    let mut scheme = String::new();
    for character in link.chars().filter(|c| !c.is_whitespace() && !c.is_control()) {
        match character {
            ':' => return scheme.is_empty() || SCHEMES.iter().any(|allowed| scheme.eq_ignore_ascii_case(allowed)),
            '/' | '?' | '#' | '\\' => return true,
            // Longer than any scheme that is allowed, and the end still has to be found: it may be no scheme at all.
            _ if scheme.len() < 16 => scheme.push(character),
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_to_another_scheme_is_found() {
        for html in [
            "<a href=\"javascript:alert(1)\">",
            "<a href='JavaScript:alert(1)'>",
            "<a href=javascript:alert(1)>",
            "<a\nhref = ' javascript:alert(1)'>",
            "<a href='java\tscript:alert(1)'>",
            "<a href='java&#10;script:alert(1)'>",
            "<a href='&#106avascript:alert(1)'>",
            "<a href='javascript&colon;alert(1)'>",
            "<a href='&#x6A;avascript&#58;alert(1)'>",
            "<a href='\u{1}javascript:alert(1)'>",
            "<a class=x href='vbscript:x'>",
            "<a class='x'href='vbscript:x'>",
            "<a/href='vbscript:x'>",
            "<img src='data:text/html;base64,x'>",
            "<img src='data:image/png;base64,x'>",
            "<img srcset='a.png 1x, javascript:x 2x'>",
            "<form action='javascript:x'>",
            "<svg><a xlink:href='javascript:x'>",
            "<p>ok</p><a title=\"a>b\" href='javascript:x'>",
            "<a href='file:///etc/passwd'>",
            "<a href='ftp://example.in/x'>",
            "<a href='blob:https://example.in/x'>",
            "<a href='anythinglongerthanallschemes:x'>",
            "<object data='javascript:x'>",
            "<meta http-equiv=refresh content='0; URL=javascript:x'>",
            "<!--[if mso]><v:roundrect href='javascript:x'><![endif]-->",
            "<!--[if !mso]><!--><a href='javascript:x'><!--<![endif]-->",
            "<!--><a href='javascript:x'>-->",
        ] {
            assert!(has_forbidden_link(html), "{html:?}");
        }
    }

    #[test]
    fn links_that_a_mail_needs_are_let_through() {
        for html in [
            "",
            "<a href='https://example.in/javascript:'>",
            "<a href='HTTP://example.in'>",
            "<a href='mailto:a@example.in?subject=x:y'>",
            "<a href='tel:+911234567890'>",
            "<a href='sms:+911234567890'>",
            "<img src='cid:logo'>",
            "<img srcset='a.png 1x, https://example.in/b.png 2x'>",
            "<a href='/x?u=javascript:1'>",
            "<a href='//example.in/x'>",
            "<a href='?a:b'>",
            "<a href='#top:1'>",
            "<a href=''>",
            "<a title='javascript:x'>",
            "javascript:alert(1)",
            "<!-- <a href='javascript:x'> -->",
            "<meta name=viewport content='width=device-width'>",
            "<html xmlns:v='urn:schemas-microsoft-com:vml'>",
        ] {
            assert!(!has_forbidden_link(html), "{html:?}");
        }
    }

    #[test]
    fn a_forbidden_link_is_found_where_its_tag_begins() {
        assert_eq!(find_forbidden_link("<p>é</p><a href='ftp:x'>"), Some(9));
    }
}
