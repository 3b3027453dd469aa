//! The visible way out of mail that people can leave, for templates that print none themselves.

use super::Rendered;
use super::links::leads_to;
use crate::locale::Locale;

/// Where the links of a footer lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FooterLinks {
    /// Stops this category for this recipient.
    pub unsubscribe_url: String,
    /// Lets the recipient choose everything.
    pub preferences_url: String,
    /// Acknowledges the escalation that the mail is of; empty where it is of none.
    pub acknowledge_url: String,
    /// Resolves it; empty where the mail is of none.
    pub resolve_url: String,
}

impl FooterLinks {
    /// Links that lead nowhere.
    pub fn none() -> Self {
        Self {
            unsubscribe_url: String::new(),
            preferences_url: String::new(),
            acknowledge_url: String::new(),
            resolve_url: String::new(),
        }
    }
}

/// The words of a footer in one language.
struct Words {
    language: &'static str,
    is_right_to_left: bool,
    unsubscribe: &'static str,
    preferences: &'static str,
}

const fn words(language: &'static str, unsubscribe: &'static str, preferences: &'static str) -> Words {
    Words { language, is_right_to_left: false, unsubscribe, preferences }
}

const fn words_from_right(language: &'static str, unsubscribe: &'static str, preferences: &'static str) -> Words {
    Words { language, is_right_to_left: true, unsubscribe, preferences }
}

/// The languages that a footer speaks; the first one stands in for all others.
const LANGUAGES: [Words; 20] = [
    words("en", "Unsubscribe", "Manage preferences"),
    words("hi", "सदस्यता समाप्त करें", "प्राथमिकताएँ प्रबंधित करें"),
    words("bn", "সদস্যতা বাতিল করুন", "পছন্দসমূহ পরিচালনা করুন"),
    words("ta", "சந்தாவை ரத்துசெய்", "விருப்பத்தேர்வுகளை நிர்வகி"),
    words("te", "సభ్యత్వాన్ని రద్దు చేయండి", "ప్రాధాన్యతలను నిర్వహించండి"),
    words("mr", "सदस्यता रद्द करा", "प्राधान्ये व्यवस्थापित करा"),
    words("gu", "સબ્સ્ક્રિપ્શન રદ કરો", "પસંદગીઓ મેનેજ કરો"),
    words("kn", "ಚಂದಾದಾರಿಕೆ ರದ್ದುಮಾಡಿ", "ಆದ್ಯತೆಗಳನ್ನು ನಿರ್ವಹಿಸಿ"),
    words("ml", "വരിക്കാരൻ അല്ലാതാകുക", "മുൻഗണനകൾ നിയന്ത്രിക്കുക"),
    words("pa", "ਗਾਹਕੀ ਰੱਦ ਕਰੋ", "ਤਰਜੀਹਾਂ ਦਾ ਪ੍ਰਬੰਧਨ ਕਰੋ"),
    words_from_right("ur", "رکنیت ختم کریں", "ترجیحات کا نظم کریں"),
    words("de", "Abmelden", "Einstellungen verwalten"),
    words("fr", "Se désabonner", "Gérer les préférences"),
    words("es", "Cancelar suscripción", "Gestionar preferencias"),
    words("pt", "Cancelar inscrição", "Gerenciar preferências"),
    words("it", "Annulla iscrizione", "Gestisci preferenze"),
    words("nl", "Afmelden", "Voorkeuren beheren"),
    words("pl", "Wypisz się", "Zarządzaj preferencjami"),
    words("ja", "配信停止", "受信設定の管理"),
    words_from_right("ar", "إلغاء الاشتراك", "إدارة التفضيلات"),
];

/// Adds two visible links, to unsubscribe and to manage preferences, to each part that shows no link to unsubscribe, in the recipient's language.
///
/// In HTML they stand before the last `</body>`, or at the end; in text at the end.
/// Each part counts for itself, because its reader sees no other; what stands in a comment of HTML, or is no link there, is not shown.
pub fn add_footer(rendered: Rendered, links: &FooterLinks, locale: &Locale) -> Rendered {
    let [english, ..] = &LANGUAGES;
    let words = LANGUAGES.iter().find(|words| words.language == locale.language()).unwrap_or(english);
    Rendered {
        subject: rendered.subject,
        text: rendered.text.map(|text| match text.contains(&links.unsubscribe_url) {
            true => text,
            false => add_to_text(text, links, words),
        }),
        html: rendered.html.map(|html| match leads_to(&html, &links.unsubscribe_url) {
            true => html,
            false => add_to_html(html, links, words),
        }),
    }
}

fn add_to_text(mut text: String, links: &FooterLinks, words: &Words) -> String {
    let end = text.trim_end().len();
    text.truncate(end);
    // The mark before a signature, by which readers fold away what follows (RFC 3676, 4.3).
    text.push_str("\n\n-- \n");
    text.push_str(&format!("{}: {}\n", words.unsubscribe, links.unsubscribe_url));
    text.push_str(&format!("{}: {}\n", words.preferences, links.preferences_url));
    text
}

fn add_to_html(mut html: String, links: &FooterLinks, words: &Words) -> String {
    let direction = if words.is_right_to_left { "rtl" } else { "ltr" };
    // Dark enough on white for WCAG 2.2 AA, and underlined, so that colour alone does not say that it is a link.
    let style = "color:#4a4a4a;text-decoration:underline";
    let footer = format!(
        "<div lang=\"{}\" dir=\"{direction}\" style=\"margin:24px auto 0;padding:16px;max-width:600px;background:#ffffff;\
         color:#4a4a4a;font-family:Arial,sans-serif;font-size:13px;line-height:20px;text-align:center\">\
         <a href=\"{}\" style=\"{style}\">{}</a> &middot; <a href=\"{}\" style=\"{style}\">{}</a></div>\n",
        words.language,
        escape_address(&links.unsubscribe_url),
        words.unsubscribe,
        escape_address(&links.preferences_url),
        words.preferences,
    );
    let at = last_body_end(&html).unwrap_or(html.len());
    html.insert_str(at, &footer);
    html
}

/// An address for an attribute in double quotes, readable as it is.
fn escape_address(address: &str) -> String {
    address.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The byte where the last `</body>` begins, in any case of its letters.
fn last_body_end(html: &str) -> Option<usize> {
    let end = "</body";
    html.rmatch_indices("</")
        .map(|(at, _)| at)
        .find(|&at| html.get(at..at + end.len()).is_some_and(|tag| tag.eq_ignore_ascii_case(end)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::Subject;
    use crate::render::{find_warnings, text_from_html};

    fn links() -> FooterLinks {
        FooterLinks {
            unsubscribe_url: "https://example.in/u/t?a=1&b=2".to_owned(),
            preferences_url: "https://example.in/p/t".to_owned(),
            ..FooterLinks::none()
        }
    }

    fn add(html: Option<&str>, text: Option<&str>, locale: &str) -> Rendered {
        let rendered = Rendered {
            subject: Subject::parse("s").unwrap(),
            html: html.map(str::to_owned),
            text: text.map(str::to_owned),
        };
        add_footer(rendered, &links(), &Locale::parse(locale).unwrap())
    }

    #[test]
    fn a_footer_stands_at_the_end_of_what_is_shown() {
        for (html, before, after) in [
            ("<html><body><p>x</p></body></html>", "<html><body><p>x</p>", "</body></html>"),
            ("<BODY>x</BODY>", "<BODY>x", "</BODY>"),
            ("<p>about &lt;/body></p></body >", "<p>about &lt;/body></p>", "</body >"),
            ("<p>x</p>", "<p>x</p>", ""),
            ("", "", ""),
        ] {
            let shown = add(Some(html), None, "en").html.unwrap();
            assert!(shown.starts_with(&format!("{before}<div lang=\"en\"")), "{shown}");
            assert!(shown.ends_with(&format!("</div>\n{after}")), "{shown}");
        }
        let text = add(None, Some("Hello\n\n"), "en").text.unwrap();
        assert_eq!(
            text,
            "Hello\n\n-- \nUnsubscribe: https://example.in/u/t?a=1&b=2\nManage preferences: https://example.in/p/t\n"
        );
    }

    #[test]
    fn a_footer_speaks_the_recipients_language_or_english() {
        for (locale, language, unsubscribe) in [
            ("hi-IN", "hi", "सदस्यता समाप्त करें"),
            ("de-AT", "de", "Abmelden"),
            ("fr", "fr", "Se désabonner"),
            ("es-419", "es", "Cancelar suscripción"),
            ("ta", "ta", "சந்தாவை ரத்துசெய்"),
            ("te-IN", "te", "సభ్యత్వాన్ని రద్దు చేయండి"),
            ("bn", "bn", "সদস্যতা বাতিল করুন"),
            ("mr", "mr", "सदस्यता रद्द करा"),
            ("ar", "ar", "إلغاء الاشتراك"),
            ("xh", "en", "Unsubscribe"),
        ] {
            let rendered = add(Some("<p>x</p>"), Some("x"), locale);
            let html = rendered.html.clone().unwrap();
            assert!(html.contains(&format!("lang=\"{language}\"")), "{locale}: {html}");
            assert!(html.contains(unsubscribe) && rendered.text.as_ref().unwrap().contains(unsubscribe), "{locale}");
            assert!(text_from_html(&html).contains(&links().unsubscribe_url), "{locale}");
            assert_eq!(find_warnings(&rendered, Some(&links().unsubscribe_url)), []);
        }
        assert!(add(Some(""), None, "ur").html.unwrap().contains("dir=\"rtl\""));
    }

    #[test]
    fn every_language_of_a_footer_is_a_locale_with_words() {
        for words in &LANGUAGES {
            assert_eq!(Locale::parse(words.language).unwrap().as_str(), words.language);
            assert!(!words.unsubscribe.is_empty() && !words.preferences.is_empty());
        }
    }
}
