//! Files of a notification, as a request brings them and as they are shown.

use super::fields::{FieldError, Fields};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::attachment::{Attachment, ContentType, FileName, MAX_ATTACHMENT_BYTES, MAX_ATTACHMENTS};
use serde_json::{Value, json};
use std::sync::Arc;

/// Reads `attachments`; what is wrong with each file is noted at its own place.
pub fn read_attachments(fields: &mut Fields<'_>) -> Vec<Attachment> {
    let Some(entries) = fields.list("attachments") else { return Vec::new() };
    if entries.len() > MAX_ATTACHMENTS {
        fields.wrong("attachments", format_args!("may have at most {MAX_ATTACHMENTS} entries, not {}", entries.len()));
        return Vec::new();
    }
    let mut attachments = Vec::with_capacity(entries.len());
    let mut sum = 0;
    for (place, entry) in entries.iter().enumerate() {
        let pointer = format!("{}/{place}", fields.at("attachments"));
        match read_attachment(entry, pointer.clone()) {
            Ok(attachment) => {
                sum += attachment.content.len();
                attachments.push(attachment);
            }
            Err(errors) => fields.extend(errors),
        }
        if sum > MAX_ATTACHMENT_BYTES {
            let detail = format!("all files together may have at most {MAX_ATTACHMENT_BYTES} bytes");
            fields.extend([FieldError::new(format!("{pointer}/content"), detail)]);
            return Vec::new();
        }
    }
    attachments
}

fn read_attachment(value: &Value, pointer: String) -> Result<Attachment, Vec<FieldError>> {
    let mut fields = Fields::of(value, pointer).map_err(|error| vec![error])?;
    let file_name = fields.parsed("filename", FileName::parse);
    fields.require("filename", &file_name);
    let content_type = fields.parsed("content_type", ContentType::parse);
    fields.require("content_type", &content_type);
    let content = fields.parsed("content", read_content);
    fields.require("content", &content);
    fields.finish()?;
    // `finish` has refused an entry that lacks any.
    let (Some(file_name), Some(content_type), Some(content)) = (file_name, content_type, content) else {
        return Err(Vec::new());
    };
    Ok(Attachment { file_name, content_type, content })
}

fn read_content(text: &str) -> Result<Arc<[u8]>, &'static str> {
    if text.is_empty() {
        return Err("must not be empty");
    }
    let content = STANDARD.decode(text);
    content
        .map(Arc::from)
        .map_err(|_| "must be base64 of RFC 4648, section 4, with its padding and without line breaks")
}

/// Files as they are shown: without their content.
pub fn print_attachments(attachments: &[Attachment]) -> Value {
    let print = |attachment: &Attachment| {
        let Attachment { file_name, content_type, content } = attachment;
        json!({"filename": file_name.as_str(), "content_type": content_type.as_str(), "size_bytes": content.len()})
    };
    attachments.iter().map(print).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(attachments: Value) -> Result<Vec<Attachment>, Vec<String>> {
        let body = json!({"attachments": attachments});
        let mut fields = Fields::of(&body, "").expect("an object");
        let attachments = read_attachments(&mut fields);
        let pointers = |errors: Vec<FieldError>| errors.into_iter().map(|error| error.pointer).collect();
        fields.finish().map_err(pointers).map(|()| attachments)
    }

    fn file(name: &str, content_type: &str, content: &str) -> Value {
        json!({"filename": name, "content_type": content_type, "content": content})
    }

    fn text_of(bytes: usize) -> Value {
        file("a.txt", "text/plain", &STANDARD.encode(vec![b'x'; bytes]))
    }

    #[test]
    fn files_are_read_and_shown_without_their_content() {
        let read = read(json!([file("a.txt", "text/plain", "aGk="), file("b.PDF", "Application/PDF", "JVBERg==")]));
        let read = read.expect("read");
        assert_eq!(&*read[0].content, b"hi");
        let shown = json!([
            {"filename": "a.txt", "content_type": "text/plain", "size_bytes": 2},
            {"filename": "b.PDF", "content_type": "application/pdf", "size_bytes": 4},
        ]);
        assert_eq!(print_attachments(&read), shown);
    }

    #[test]
    fn each_mistake_in_a_file_is_named_by_its_pointer() {
        let table = [
            (json!("a.txt"), vec!["/attachments"]),
            (json!(["a.txt"]), vec!["/attachments/0"]),
            (json!([{}]), vec!["/attachments/0/filename", "/attachments/0/content_type", "/attachments/0/content"]),
            (json!([file("../a.txt", "text/plain", "aGk=")]), vec!["/attachments/0/filename"]),
            (json!([file("a.exe", "application/pdf", "aGk=")]), vec!["/attachments/0/filename"]),
            (json!([file("a.txt", "text/plain; charset=utf-8", "aGk=")]), vec!["/attachments/0/content_type"]),
            (json!([file("a.txt", "text/javascript", "aGk=")]), vec!["/attachments/0/content_type"]),
            (json!([text_of(1), file("a.txt", "text/plain", "aGk")]), vec!["/attachments/1/content"]),
            (json!([file("a.txt", "text/plain", "aG\r\nk=")]), vec!["/attachments/0/content"]),
            (json!([file("a.txt", "text/plain", "aGl=")]), vec!["/attachments/0/content"]),
            (json!([file("a.txt", "text/plain", "_-__")]), vec!["/attachments/0/content"]),
            (json!([file("a.txt", "text/plain", "")]), vec!["/attachments/0/content"]),
            (
                json!([{"filename": "a.txt", "content_type": "a/b", "content": "aGk=", "cid": 1}]),
                vec!["/attachments/0/cid"],
            ),
            (json!(vec![text_of(1); 11]), vec!["/attachments"]),
            (json!([text_of(300 * 1024), text_of(300 * 1024)]), vec!["/attachments/1/content"]),
            (json!([text_of(512 * 1024 + 1)]), vec!["/attachments/0/content"]),
        ];
        for (attachments, pointers) in table {
            assert_eq!(read(attachments).expect_err("refused"), pointers);
        }
        assert!(read(json!([text_of(512 * 1024)])).is_ok(), "the largest");
        assert_eq!(read(json!(vec![text_of(1); 10])).map(|read| read.len()), Ok(10), "the most");
    }
}
