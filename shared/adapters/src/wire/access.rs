//! Who may call a route: by the scopes of a token, or anybody.

use std::fmt;

/// What a token lets its bearer do, as named in its claim `scope`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// `notifications:write`: to ask for notifications, and to cancel them.
    NotificationsWrite,
    /// `notifications:read`: to see notifications and what became of them.
    NotificationsRead,
    /// `manage`: everything that people manage.
    Manage,
    /// `jobs:run`: to ask for runs of jobs.
    JobsRun,
    /// `self`: a recipient's own token. It reaches nobody else, whatever other scopes it names.
    OwnRecipient,
}

impl Scope {
    /// Every scope.
    pub const ALL: &[Self] =
        &[Self::NotificationsWrite, Self::NotificationsRead, Self::Manage, Self::JobsRun, Self::OwnRecipient];
    /// The scopes of a tenant's own programs and people, of which every token has at least one.
    pub const OF_TENANT: &[Self] = &[Self::NotificationsWrite, Self::NotificationsRead, Self::Manage, Self::JobsRun];

    /// The scope's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotificationsWrite => "notifications:write",
            Self::NotificationsRead => "notifications:read",
            Self::Manage => "manage",
            Self::JobsRun => "jobs:run",
            Self::OwnRecipient => "self",
        }
    }

    /// Reads a name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|scope| scope.as_str() == text)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Whoever has a token with one of these scopes.
    Scopes(&'static [Scope]),
    /// Anybody: what the path names is a secret that is the authentication.
    Public,
}

impl Access {
    /// Whether a token with these scopes may call the route.
    /// One with `self` is its recipient's only: its other scopes count for nothing.
    pub fn admits(self, scopes: &[Scope]) -> bool {
        match self {
            Self::Public => true,
            Self::Scopes(wanted) if scopes.contains(&Scope::OwnRecipient) => wanted.contains(&Scope::OwnRecipient),
            Self::Scopes(wanted) => wanted.iter().any(|scope| scopes.contains(scope)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_read_as_it_is_printed() {
        for scope in Scope::ALL {
            assert_eq!(Scope::parse(scope.as_str()), Some(*scope));
        }
    }

    #[test]
    fn one_of_the_wanted_scopes_is_enough_and_a_recipients_own_token_is_nothing_else() {
        use Scope::{Manage, NotificationsRead, OwnRecipient};
        const MANAGE: Access = Access::Scopes(&[Scope::Manage]);
        const EITHER: Access = Access::Scopes(&[Manage, OwnRecipient]);
        let table: [(Access, &[Scope], bool); 8] = [
            (MANAGE, &[Manage], true),
            (MANAGE, &[NotificationsRead, Manage], true),
            (MANAGE, &[NotificationsRead], false),
            (MANAGE, &[], false),
            (EITHER, &[OwnRecipient], true),
            (EITHER, &[Manage], true),
            (MANAGE, &[OwnRecipient, Manage], false),
            (Access::Public, &[], true),
        ];
        for (access, scopes, admitted) in table {
            assert_eq!(access.admits(scopes), admitted, "{access:?} {scopes:?}");
        }
    }
}
