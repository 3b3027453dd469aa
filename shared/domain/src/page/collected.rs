//! The page with everything that a message told of: what its recipient would have got one by one.

use super::frame;
use super::words::{Language, fill};
use maud::html;

/// One of those that left together.
#[derive(Clone, PartialEq, Eq)]
pub struct CollectedItem {
    /// What its subject would have been.
    pub title: String,
    /// What it would have said, as plain text; `None` where that cannot be told any more.
    pub text: Option<String>,
    /// When it was asked for, for programs.
    pub at: String,
    /// The same as a person reads it.
    pub at_local: String,
}

crate::masked_debug!(CollectedItem, "CollectedItem", at);

/// What the page shows.
#[derive(Clone, Copy, Debug)]
pub struct Collected<'a> {
    /// The tenant's name.
    pub tenant: &'a str,
    /// How many there are on all pages.
    pub count: usize,
    /// Those of this page.
    pub items: &'a [CollectedItem],
    /// The next page's number, where there is one.
    pub next_page: Option<u32>,
}

/// Renders the page.
pub fn render_collected(page: &Collected<'_>, language: Language) -> String {
    let words = language.words();
    let heading = fill(words.collected, &[("tenant", page.tenant)]);
    let main = html! {
        h1 { (heading) }
        p.soft { (fill(words.collected_note, &[("count", &page.count.to_string())])) }
        ul.plain {
            @for item in page.items {
                li {
                    @match &item.text {
                        Some(text) => details {
                            summary { (item.title) }
                            p.text { (text) }
                        },
                        None => (item.title),
                    }
                    " "
                    time.soft datetime=(item.at) { (item.at_local) }
                }
            }
        }
        @if let Some(number) = page.next_page {
            p.more { a href={ "?page=" (number) } { (words.further) } }
        }
    };
    frame(language, &heading, Some(page.tenant), main)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_text_and_never_markup() {
        let item = CollectedItem {
            title: "<b>1 & 2</b>".into(),
            text: Some("<script>x</script>".into()),
            at: "2026-12-02T03:30:00Z".into(),
            at_local: "2026-12-02 09:00".into(),
        };
        let page = Collected { tenant: "A<i>", count: 30, items: &[item], next_page: Some(2) };
        let shown = render_collected(&page, Language::English);
        assert!(shown.contains("&lt;b&gt;1 &amp; 2&lt;/b&gt;") && shown.contains("&lt;script&gt;"), "{shown}");
        assert!(!shown.contains("<script") && !shown.contains("<i>"), "{shown}");
        assert!(shown.contains("30 in all") && shown.contains("href=\"?page=2\""), "{shown}");
    }
}
