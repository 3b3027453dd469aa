//! `Debug` of what holds personal data: it shows which thing it is, and nothing of whom it is about.
//!
//! Logs, panics and the runtime print values with `{:?}`, so a derived `Debug` would put addresses, names and contents
//! there. A test holds every struct with such a field to this macro.

/// Implements `Debug` for a struct with some of its fields; the others are left out, and `..` says so.
#[macro_export]
macro_rules! masked_debug {
    ($type:ty, $name:literal $(, $shown:ident)* $(,)?) => {
        impl ::std::fmt::Debug for $type {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.debug_struct($name)$(.field(stringify!($shown), &self.$shown))*.finish_non_exhaustive()
            }
        }
    };
}

#[cfg(test)]
mod tests {
    struct Letter {
        id: u32,
        #[expect(dead_code, reason = "only to be hidden")]
        text: &'static str,
    }

    masked_debug!(Letter, "Letter", id);

    #[test]
    fn only_the_named_fields_are_shown() {
        assert_eq!(format!("{:?}", Letter { id: 7, text: "Dear Ada" }), "Letter { id: 7, .. }");
    }
}
