//! Files that leave with a mail: name, type and content.
//!
//! A file that the provider would refuse is refused here, where the caller still reads the answer.
//! `Debug` shows sizes and types only: a name says as much about a person as the content does.

use crate::calendar::Method;
use crate::header::breaks_line;
use crate::name::turns_direction;
use std::fmt;
use std::sync::Arc;

/// The most files of one notification.
pub const MAX_ATTACHMENTS: usize = 10;
/// The most content of one notification's files together, in bytes: encoded, it still fits into a request.
pub const MAX_ATTACHMENT_BYTES: usize = 512 * 1024;
/// The longest file name, in characters; SES takes 255.
pub const MAX_NAME_CHARS: usize = 128;
/// The longest content type that SES takes, in bytes.
pub const MAX_TYPE_BYTES: usize = 78;

/// What SES does not send, by the end of the name: <https://docs.aws.amazon.com/ses/latest/dg/mime-types.html>.
const REFUSED_EXTENSIONS: [&str; 90] = [
    "ade", "adp", "app", "asp", "bas", "bat", "cer", "chm", "cmd", "com", "cpl", "crt", "csh", "der", "exe", "fxp",
    "gadget", "hlp", "hta", "inf", "ins", "isp", "its", "js", "jse", "ksh", "lib", "lnk", "mad", "maf", "mag", "mam",
    "maq", "mar", "mas", "mat", "mau", "mav", "maw", "mda", "mdb", "mde", "mdt", "mdw", "mdz", "msc", "msh", "msh1",
    "msh1xml", "msh2", "msh2xml", "mshxml", "msi", "msp", "mst", "ops", "pcd", "pif", "plg", "prf", "prg", "ps1",
    "ps1xml", "ps2", "ps2xml", "psc1", "psc2", "reg", "scf", "scr", "sct", "shb", "shs", "sys", "tmp", "url", "vb",
    "vbe", "vbs", "vps", "vsmacros", "vss", "vst", "vsw", "vxd", "ws", "wsc", "wsf", "wsh", "xnk",
];

/// Programs and scripts by their types; SES looks at names only, and mailbox providers at both.
const REFUSED_TYPES: [&str; 27] = [
    "application/ecmascript",
    "application/hta",
    "application/java-archive",
    "application/javascript",
    "application/vnd.android.package-archive",
    "application/vnd.microsoft.portable-executable",
    "application/x-bat",
    "application/x-csh",
    "application/x-dosexec",
    "application/x-executable",
    "application/x-httpd-php",
    "application/x-java-archive",
    "application/x-javascript",
    "application/x-mach-binary",
    "application/x-ms-installer",
    "application/x-ms-shortcut",
    "application/x-msdos-program",
    "application/x-msdownload",
    "application/x-msi",
    "application/x-powershell",
    "application/x-sh",
    "application/x-sharedlib",
    "application/x-shellscript",
    "text/ecmascript",
    "text/javascript",
    "text/vbscript",
    "text/x-shellscript",
];

/// A file that leaves with a mail. Clones share the content.
#[derive(Clone, PartialEq, Eq)]
pub struct Attachment {
    /// What it is called.
    pub file_name: FileName,
    /// What it is.
    pub content_type: ContentType,
    /// Its bytes.
    pub content: Arc<[u8]>,
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attachment({}, {} bytes)", self.content_type, self.content.len())
    }
}

/// A file's name: 1 to 128 characters of one line, with an extension, and nothing that would lead out of a folder or hide
/// what the file is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName(String);

/// Says why a text is not the name of a file that can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileNameError {
    /// The text has no characters.
    Empty,
    /// The name has more than 128 characters.
    TooLong,
    /// The name has a control character, or one that turns the direction of what follows.
    Control,
    /// The name has a character that file systems keep for themselves.
    Reserved,
    /// The name begins or ends with a space, or ends with a dot: file systems cut that off.
    Edge,
    /// The name has no extension.
    NoExtension,
    /// The provider sends no files with this extension.
    Refused,
}

impl fmt::Display for FileNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "a file name must not be empty",
            Self::TooLong => "a file name may have at most 128 characters",
            Self::Control => "a file name must not have control characters or ones that turn the direction of writing",
            Self::Reserved => "a file name must not have any of < > : \" / \\ | ? *",
            Self::Edge => "a file name must not begin or end with a space, or end with a dot",
            Self::NoExtension => "a file name must end with an extension, such as .pdf",
            Self::Refused => "mail providers take no files with this extension",
        })
    }
}

impl std::error::Error for FileNameError {}

impl FileName {
    /// Takes a name as it was written.
    ///
    /// # Errors
    ///
    /// When the text is none that every system can keep, or one of a file that SES does not send.
    pub fn parse(text: &str) -> Result<Self, FileNameError> {
        if text.is_empty() {
            return Err(FileNameError::Empty);
        }
        if text.chars().count() > MAX_NAME_CHARS {
            return Err(FileNameError::TooLong);
        }
        if text.chars().any(|c| breaks_line(c) || turns_direction(c)) {
            return Err(FileNameError::Control);
        }
        if text.contains(['<', '>', ':', '"', '/', '\\', '|', '?', '*']) {
            return Err(FileNameError::Reserved);
        }
        if text.starts_with(char::is_whitespace) || text.ends_with(|c: char| c.is_whitespace() || c == '.') {
            return Err(FileNameError::Edge);
        }
        let (_, extension) = text.rsplit_once('.').ok_or(FileNameError::NoExtension)?;
        if REFUSED_EXTENSIONS.iter().any(|refused| refused.eq_ignore_ascii_case(extension)) {
            return Err(FileNameError::Refused);
        }
        Ok(Self(text.to_owned()))
    }

    /// The name as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileName({} characters)", self.0.chars().count())
    }
}

/// What a file is: a type and subtype of RFC 6838 in lower case, at most 78 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentType(String);

/// Says why a text is not the type of a file that can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentTypeError {
    /// The text is not `type/subtype`.
    Form,
    /// The type is longer than 78 bytes.
    TooLong,
    /// The type is one of whole messages, which cannot be sent as the bytes of a file.
    Composite,
    /// The type is one of programs or scripts.
    Refused,
}

impl fmt::Display for ContentTypeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "must be type/subtype, such as application/pdf, without parameters",
            Self::TooLong => "a content type may have at most 78 bytes",
            Self::Composite => "multipart and message types cannot be attached",
            Self::Refused => "programs and scripts cannot be attached",
        })
    }
}

impl std::error::Error for ContentTypeError {}

impl ContentType {
    /// Reads a type without parameters, in any case.
    ///
    /// # Errors
    ///
    /// When the text is none, or one of what cannot be sent.
    pub fn parse(text: &str) -> Result<Self, ContentTypeError> {
        let (kind, subtype) = text.split_once('/').ok_or(ContentTypeError::Form)?;
        if !is_restricted_name(kind) || !is_restricted_name(subtype) {
            return Err(ContentTypeError::Form);
        }
        if text.len() > MAX_TYPE_BYTES {
            return Err(ContentTypeError::TooLong);
        }
        let text = text.to_ascii_lowercase();
        if text.starts_with("multipart/") || text.starts_with("message/") {
            return Err(ContentTypeError::Composite);
        }
        if REFUSED_TYPES.contains(&text.as_str()) {
            return Err(ContentTypeError::Refused);
        }
        Ok(Self(text))
    }

    /// The type of an invitation. What its method is must stand here, too: mail readers look nowhere else before they
    /// offer to answer (RFC 6047, section 2.4).
    pub fn of_invitation(method: Method) -> Self {
        Self(format!("text/calendar; method={}; charset=UTF-8", method.as_property()))
    }

    /// The type as a mail's header has it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// RFC 6838, section 4.2.
fn is_restricted_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
}

impl fmt::Display for ContentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_file_name_leads_nowhere_and_hides_nothing() {
        let long = format!("{}.pdf", "é".repeat(125));
        let longest = format!("{}.pdf", "é".repeat(124));
        let cases = [
            ("report.pdf", Ok(())),
            ("Bericht für März.pdf", Ok(())),
            ("प्रमाणपत्र.pdf", Ok(())),
            ("archive.tar.gz", Ok(())),
            (&longest, Ok(())),
            ("", Err(FileNameError::Empty)),
            (&long, Err(FileNameError::TooLong)),
            ("a\r\nb.pdf", Err(FileNameError::Control)),
            ("a\0.pdf", Err(FileNameError::Control)),
            ("a\u{2028}.pdf", Err(FileNameError::Control)),
            ("exe.\u{202e}fdp.pdf", Err(FileNameError::Control)),
            ("a\u{2066}.pdf", Err(FileNameError::Control)),
            ("../etc/passwd.txt", Err(FileNameError::Reserved)),
            ("C:\\a.pdf", Err(FileNameError::Reserved)),
            ("a.exe:b.pdf", Err(FileNameError::Reserved)),
            ("a\".pdf", Err(FileNameError::Reserved)),
            ("a.exe.", Err(FileNameError::Edge)),
            ("a.exe ", Err(FileNameError::Edge)),
            ("a.exe\u{a0}", Err(FileNameError::Edge)),
            (" a.pdf", Err(FileNameError::Edge)),
            ("..", Err(FileNameError::Edge)),
            ("README", Err(FileNameError::NoExtension)),
            ("a.exe", Err(FileNameError::Refused)),
            ("a.pdf.ExE", Err(FileNameError::Refused)),
            (".js", Err(FileNameError::Refused)),
        ];
        for (text, wanted) in cases {
            assert_eq!(FileName::parse(text).map(|_| ()), wanted, "{text:?}");
        }
    }

    #[test]
    fn a_content_type_is_one_of_a_file_that_is_only_looked_at() {
        let long = format!("application/{}", "x".repeat(67));
        let cases = [
            ("application/pdf", Ok("application/pdf")),
            ("Image/PNG", Ok("image/png")),
            ("image/svg+xml", Ok("image/svg+xml")),
            (&long[..78], Ok(&long[..78])),
            (&long, Err(ContentTypeError::TooLong)),
            ("", Err(ContentTypeError::Form)),
            ("pdf", Err(ContentTypeError::Form)),
            ("application/", Err(ContentTypeError::Form)),
            ("/pdf", Err(ContentTypeError::Form)),
            ("a/b/c", Err(ContentTypeError::Form)),
            ("text/plain; charset=utf-8", Err(ContentTypeError::Form)),
            ("text/plain\r\nX: y", Err(ContentTypeError::Form)),
            ("text/pläin", Err(ContentTypeError::Form)),
            (" text/plain", Err(ContentTypeError::Form)),
            ("message/rfc822", Err(ContentTypeError::Composite)),
            ("Multipart/mixed", Err(ContentTypeError::Composite)),
            ("application/x-msdownload", Err(ContentTypeError::Refused)),
            ("TEXT/JavaScript", Err(ContentTypeError::Refused)),
        ];
        for (text, wanted) in cases {
            let parsed = ContentType::parse(text).map(|found| found.to_string());
            assert_eq!(parsed, wanted.map(str::to_owned), "{text:?}");
        }
    }

    #[test]
    fn an_invitations_type_names_its_method_and_ses_takes_it() {
        let cancel = ContentType::of_invitation(Method::Cancel);
        assert_eq!(cancel.as_str(), "text/calendar; method=CANCEL; charset=UTF-8");
        assert!(ContentType::of_invitation(Method::Request).as_str().len() <= MAX_TYPE_BYTES);
    }

    #[test]
    fn nothing_of_a_file_but_its_size_and_type_is_shown() {
        let attachment = Attachment {
            file_name: FileName::parse("asha-rao.pdf").expect("a name"),
            content_type: ContentType::parse("application/pdf").expect("a type"),
            content: Arc::from(&b"secret"[..]),
        };
        assert_eq!(format!("{attachment:?}"), "Attachment(application/pdf, 6 bytes)");
        assert_eq!(format!("{:?}", attachment.file_name), "FileName(12 characters)");
    }

    proptest! {
        #[test]
        fn what_is_parsed_prints_as_what_parses_to_the_same(name in "\\PC{0,20}\\.[a-z]{1,4}", kind in "[ -~]{1,12}/[ -~]{1,12}") {
            if let Ok(name) = FileName::parse(&name) {
                prop_assert_eq!(FileName::parse(name.as_str()), Ok(name));
            }
            if let Ok(kind) = ContentType::parse(&kind) {
                prop_assert_eq!(ContentType::parse(kind.as_str()), Ok(kind));
            }
        }
    }
}
