//! A tenant's template ends: in parts within their limits, or in an error that quotes no data.
//!
//! The input is a subject, a text part, an HTML part and data as JSON, with a line `---` between.

#![no_main]

use domain::render::{
    MAX_RENDERED_BYTES, Rendered, TemplateSource, check_context, check_template, render_template, text_from_html,
};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

/// Stands in the data and in no template.
const SECRET: &str = "k7Qz-9vXw-2mRt";

fuzz_target!(|text: &str| {
    let mut parts = text.splitn(4, "\n---\n");
    let source = TemplateSource {
        subject: parts.next().unwrap_or_default().to_owned(),
        text: parts.next().map(str::to_owned),
        html: parts.next().map(str::to_owned),
    };
    let mut data = parts.next().and_then(|data| serde_json::from_str(data).ok()).unwrap_or_else(|| json!({}));
    if let Value::Object(members) = &mut data {
        members.insert("secret".to_owned(), json!(SECRET));
    }
    check_render(&source, &data, text.contains(SECRET));
});

fn check_render(source: &TemplateSource, data: &Value, is_told: bool) {
    let checked = check_template(source);
    let rendered = render_template(source, data);
    assert_eq!(rendered, render_template(source, data), "the same comes out of the same");
    match rendered {
        Ok(rendered) => {
            assert!(checked.is_ok(), "what is refused when stored never renders");
            assert!(check_context(data).is_ok());
            check_parts(source, &rendered);
        }
        Err(error) => {
            let words = error.to_string();
            assert!(words.len() <= 1_000, "{} bytes of error", words.len());
            assert!(is_told || !words.contains(SECRET), "{words}");
        }
    }
}

fn check_parts(source: &TemplateSource, rendered: &Rendered) {
    assert!(!rendered.subject.as_str().contains(['\r', '\n', '\0']));
    assert_eq!(rendered.text.is_some(), source.text.is_some());
    assert_eq!(rendered.html.is_some(), source.html.is_some());
    for part in [&rendered.text, &rendered.html].into_iter().flatten() {
        assert!(part.len() <= MAX_RENDERED_BYTES);
    }
    if let (Some(html), Some(source)) = (&rendered.html, &source.html) {
        let writes_tags = source.contains('<') || source.contains("nl2br");
        assert!(writes_tags || !html.contains('<'), "only the template itself writes tags");
        let text = text_from_html(html);
        assert!(!text.chars().any(|character| character.is_control() && character != '\n'));
        assert!(text.len() <= html.len() + 256, "{} bytes became {}", html.len(), text.len());
    }
}
