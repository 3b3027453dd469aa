//! SES's rules on the files of one mail.
//!
//! Sources: the SES v2 API model (`Attachment`: lengths and names) and SES's developer guide (extensions, encodings).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::refusal::Refusal;
use super::request::Attachment;

const NAME_MAX: usize = 255;
const TYPE_MAX: usize = 78;
const DESCRIPTION_MAX: usize = 1000;
const ID_MAX: usize = 78;
const DISPOSITIONS: [&str; 2] = ["ATTACHMENT", "INLINE"];

/// Ends of names that SES does not send.
const REFUSED_EXTENSIONS: &str = "ade adp app asp bas bat cer chm cmd com cpl crt csh der exe fxp gadget hlp hta inf \
    ins isp its js jse ksh lib lnk mad maf mag mam maq mar mas mat mau mav maw mda mdb mde mdt mdw mdz msc msh msh1 \
    msh2 mshxml msh1xml msh2xml msi msp mst ops pcd pif plg prf prg reg scf scr sct shb shs sys ps1 ps1xml ps2 ps2xml \
    psc1 psc2 tmp url vb vbe vbs vps vsmacros vss vst vsw vxd ws wsc wsf wsh xnk";

/// A file of an accepted mail, in the form that the ledger keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentFile {
    /// Its name.
    pub file_name: String,
    /// Its type with its parameters; `None` leaves it to SES.
    pub content_type: Option<String>,
    /// How many bytes it has.
    pub size_bytes: usize,
    /// A digest of its bytes, in lower-case hex.
    pub sha256: String,
}

/// Checks the files of a request. Errors: the first rule that one breaks.
pub(super) fn check_attachments(attachments: Vec<Attachment>) -> Result<Vec<SentFile>, Refusal> {
    attachments.into_iter().map(check_attachment).collect()
}

fn check_attachment(attachment: Attachment) -> Result<SentFile, Refusal> {
    let Attachment {
        file_name,
        raw_content,
        content_type,
        content_disposition,
        content_description,
        content_id,
        content_transfer_encoding,
    } = attachment;
    let name_is_legal = (1..=NAME_MAX).contains(&file_name.chars().count()) && !file_name.chars().any(char::is_control);
    if !name_is_legal {
        return Err(Refusal::bad_request(format!("Illegal filename {file_name:?}.")));
    }
    // The guide wants an extension; without one nothing is known of the file.
    let Some((_, extension)) = file_name.rsplit_once('.') else {
        return Err(Refusal::bad_request(format!("Illegal filename {file_name:?}: it has no extension.")));
    };
    if REFUSED_EXTENSIONS.split_whitespace().any(|refused| refused.eq_ignore_ascii_case(extension)) {
        return Err(Refusal::bad_request(format!("Illegal filename {file_name:?}.")));
    }
    if let Some(content_type) = &content_type {
        check_type(content_type)?;
    }
    if let Some(disposition) = content_disposition.filter(|name| !DISPOSITIONS.contains(&name.as_str())) {
        return Err(Refusal::bad_request(format!("Unknown ContentDisposition <{disposition}>.")));
    }
    if content_description.is_some_and(|text| text.chars().count() > DESCRIPTION_MAX) {
        return Err(Refusal::bad_request("The ContentDescription is too long."));
    }
    if content_id.is_some_and(|id| !(1..=ID_MAX).contains(&id.len())) {
        return Err(Refusal::bad_request("The ContentId is empty or too long."));
    }
    let content = STANDARD
        .decode(&raw_content)
        .map_err(|_| Refusal::serialization("RawContent is not base64-encoded binary data"))?;
    if content.is_empty() {
        return Err(Refusal::bad_request(format!("Attachment {file_name:?} is empty.")));
    }
    match content_transfer_encoding.as_deref().unwrap_or("SEVEN_BIT") {
        "BASE64" | "QUOTED_PRINTABLE" => {}
        "SEVEN_BIT" if content.is_ascii() && !content.contains(&0) => {}
        // SES would put it into the mail as it is, and break it.
        "SEVEN_BIT" => return Err(Refusal::bad_request(format!("Attachment {file_name:?} is not 7-bit data."))),
        other => return Err(Refusal::bad_request(format!("Unknown ContentTransferEncoding <{other}>."))),
    }
    let sha256 = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(SentFile { file_name, content_type, size_bytes: content.len(), sha256 })
}

/// A type and subtype; what follows a semicolon are parameters.
fn check_type(content_type: &str) -> Result<(), Refusal> {
    let is_token = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    let name = content_type.split(';').next().unwrap_or_default();
    let is_legal = content_type.len() <= TYPE_MAX
        && content_type.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        && name.split_once('/').is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype));
    if is_legal { Ok(()) } else { Err(Refusal::bad_request(format!("Illegal ContentType {content_type:?}."))) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn sound() -> Value {
        json!({
            "FileName": "invite.ics", "RawContent": STANDARD.encode("BEGIN:VCALENDAR é"),
            "ContentType": "text/calendar; method=REQUEST; charset=UTF-8", "ContentDisposition": "ATTACHMENT",
            "ContentTransferEncoding": "BASE64",
        })
    }

    fn check(attachment: Value) -> Result<Vec<SentFile>, Refusal> {
        check_attachments(vec![serde_json::from_value(attachment).expect("the test's file has the right form")])
    }

    fn check_with(member: &str, value: Value) -> Result<Vec<SentFile>, Refusal> {
        let mut attachment = sound();
        attachment[member] = value;
        check(attachment)
    }

    #[test]
    fn a_sound_file_is_kept_by_name_size_and_digest() {
        let files = check(sound()).expect("accepted");
        assert_eq!((files[0].file_name.as_str(), files[0].size_bytes), ("invite.ics", 18));
        assert_eq!(files[0].sha256.len(), 64);
        let least = json!({"FileName": "a.txt", "RawContent": "aGk="});
        assert_eq!(check(least).expect("accepted")[0].content_type, None);
    }

    #[test]
    fn a_file_that_breaks_a_rule_is_refused() {
        let bad = "BadRequestException";
        for (rule, member, value, code) in [
            ("no name", "FileName", json!(""), bad),
            ("name of 256", "FileName", json!(format!("{}.txt", "n".repeat(252))), bad),
            ("name with a line break", "FileName", json!("a\r\n.txt"), bad),
            ("no extension", "FileName", json!("invite"), bad),
            ("program", "FileName", json!("setup.EXE"), bad),
            ("certificate", "FileName", json!("ca.crt"), bad),
            ("type without subtype", "ContentType", json!("text"), bad),
            ("type of 79", "ContentType", json!(format!("text/{}", "x".repeat(74))), bad),
            ("type with a line break", "ContentType", json!("text/plain\r\nX: y"), bad),
            ("disposition in lower case", "ContentDisposition", json!("attachment"), bad),
            ("description of 1001", "ContentDescription", json!("d".repeat(1001)), bad),
            ("id empty", "ContentId", json!(""), bad),
            ("encoding unknown", "ContentTransferEncoding", json!("8BIT"), bad),
            ("8-bit data as 7-bit", "ContentTransferEncoding", json!("SEVEN_BIT"), bad),
            ("8-bit data as 7-bit by default", "ContentTransferEncoding", Value::Null, bad),
            ("empty", "RawContent", json!(""), bad),
            ("no base64", "RawContent", json!("%"), "SerializationException"),
            ("base64 without padding", "RawContent", json!("aGk"), "SerializationException"),
        ] {
            let refusal = check_with(member, value).expect_err(rule);
            assert_eq!(refusal.code.as_deref(), Some(code), "{rule}: {}", refusal.message);
        }
    }
}
