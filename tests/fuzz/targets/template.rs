//! A tenant's template ends: in parts within their limits, or in an error that quotes no data.
//! So does a draft: in parts that pass the same checks, or in errors with their places.
//!
//! The input is a subject, a text part, an HTML part and data as JSON, with a line `---` between.
//! The HTML part is published as HTML, as MJML, and as the text of an MJML mail.

#![no_main]

use domain::delivery::Channel;
use domain::render::{
    CompiledTemplate, FooterLinks, Formats, MAX_RENDERED_BYTES, Rendered, TemplateSource, add_footer, check_context,
    check_template, find_warnings, render_template, text_from_html,
};
use domain::template::{Draft, Kind, Library, Markup, Variant, publish};
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
    if let Some(html) = &source.html {
        let in_text = format!(
            "<mjml><mj-body><mj-section><mj-column><mj-text>{html}</mj-text></mj-column></mj-section></mj-body></mjml>"
        );
        for markup in [Markup::Html(html.clone()), Markup::Mjml(html.clone()), Markup::Mjml(in_text)] {
            check_publish(&source, markup);
        }
    }
});

fn formats() -> Formats {
    Formats::of("hi-IN", "Asia/Kolkata")
}

fn check_publish(source: &TemplateSource, markup: Markup) {
    let locale = formats().locale;
    let variant = Variant {
        channel: Channel::Email,
        locale: locale.clone(),
        subject: Some(source.subject.clone()),
        markup: Some(markup),
        text: source.text.clone(),
        short_text: None,
    };
    let draft = Draft { kind: Kind::Message, layout: None, variables: None, variants: vec![variant] };
    match publish(&draft, &Library::empty(locale)) {
        Ok(published) => {
            let parts = &published[0].parts;
            let made = TemplateSource {
                subject: parts.subject.clone().expect("a mail has a subject"),
                text: parts.text.clone(),
                html: parts.html.clone(),
            };
            assert!(check_template(&made).is_ok(), "what is published can be compiled");
        }
        Err(errors) => {
            assert!(!errors.is_empty());
            for error in errors {
                assert!(error.pointer.starts_with("/variants/0"), "{error:?}");
                assert!(error.detail.len() <= 2_000, "{} bytes of error", error.detail.len());
                assert!(error.line != Some(0) && error.column != Some(0), "{error:?}");
            }
        }
    }
}

fn check_render(source: &TemplateSource, data: &Value, is_told: bool) {
    let checked = check_template(source);
    let rendered = render_template(source, data, &formats());
    match CompiledTemplate::new(source.clone()) {
        Ok(compiled) => {
            for _ in 0..2 {
                assert_eq!(rendered, compiled.render(data, &formats()), "the same comes out of the same");
            }
        }
        Err(error) => assert_eq!(rendered, Err(error)),
    }
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
        let links = FooterLinks {
            unsubscribe_url: "https://example.in/u".to_owned(),
            preferences_url: "https://example.in/p".to_owned(),
            ..FooterLinks::none()
        };
        let footed = add_footer(rendered.clone(), &links, &formats().locale);
        let _ = find_warnings(&footed, Some(&links.unsubscribe_url));
        assert!(footed.html.is_some_and(|footed| footed.len() > html.len() && footed.contains(&links.preferences_url)));
        let text = text_from_html(html);
        assert!(!text.chars().any(|character| character.is_control() && character != '\n'));
        assert!(text.len() <= html.len() + 256, "{} bytes became {}", html.len(), text.len());
    }
}
