//! Every route of the API: who may call it, and which function answers.
//!
//! The one list that `template.yaml`, the OpenAPI document, the flows and the tests are held to.
//! A new route is a line of the table below; the compiler then asks for its handler and its description, and a test
//! for its resource in `template.yaml`.

use super::access::{Access, Scope};
use std::fmt;

/// The function that answers a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// `enqueue`.
    Enqueue,
    /// `api`.
    Api,
}

macro_rules! route_table {
    ($($(#[$doc:meta])* $name:ident = $method:ident $path:literal $([$($query:literal),*])?, $function:ident, $access:expr;)*) => {
        /// A route, by the name that its resource in `template.yaml` has before `Route`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Route {
            $($(#[$doc])* $name,)*
        }

        impl Route {
            /// Every route.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// As API Gateway names it, such as `GET /v1/notifications/{id}`.
            pub const fn key(self) -> &'static str {
                match self { $(Self::$name => concat!(stringify!($method), " ", $path),)* }
            }

            /// The HTTP method.
            pub const fn method(self) -> &'static str {
                match self { $(Self::$name => stringify!($method),)* }
            }

            /// The path, with its parameters' names in braces.
            pub const fn path(self) -> &'static str {
                match self { $(Self::$name => $path,)* }
            }

            /// The names of the query's parameters; a request with another is refused, unless the route is public.
            pub const fn query(self) -> &'static [&'static str] {
                match self { $(Self::$name => &[$($($query),*)?],)* }
            }

            /// Who may call it.
            pub const fn access(self) -> Access {
                match self { $(Self::$name => $access,)* }
            }

            /// Who answers it.
            pub const fn function(self) -> Function {
                match self { $(Self::$name => Function::$function,)* }
            }
        }
    };
}

const WRITE: Access = Access::Scopes(&[Scope::NotificationsWrite]);
const READ: Access = Access::Scopes(&[Scope::NotificationsRead]);
/// Any token of ours.
const ANY: Access = Access::Scopes(Scope::ALL);
const READ_OR_SELF: Access = Access::Scopes(&[Scope::NotificationsRead, Scope::OwnRecipient]);
const MANAGE: Access = Access::Scopes(&[Scope::Manage]);
const READ_OR_MANAGE: Access = Access::Scopes(&[Scope::NotificationsRead, Scope::Manage]);
const RUN: Access = Access::Scopes(&[Scope::JobsRun]);
const MANAGE_OR_SELF: Access = Access::Scopes(&[Scope::Manage, Scope::OwnRecipient]);

route_table! {
    /// Asks for notifications.
    CreateNotifications = POST "/v1/notifications", Enqueue, WRITE;
    /// Lists notifications.
    ListNotifications = GET "/v1/notifications"
        ["recipient", "category", "channel", "state", "message", "escalation", "from", "to", "after", "page_size"], Api,
        READ_OR_SELF;
    /// Shows a notification.
    GetNotification = GET "/v1/notifications/{id}", Api, READ_OR_SELF;
    /// Says why a notification was sent or was not.
    ExplainNotification = GET "/v1/notifications/{id}/explain", Api, READ;
    /// Cancels what of a notification is not sent yet.
    CancelNotification = POST "/v1/notifications/{id}/cancel", Api, WRITE;

    /// Lists what came through the SQL door and waits, or was refused.
    ListDoorRequests = GET "/v1/door-requests" ["status", "after", "page_size"], Api, READ;
    /// Shows what became of a request of the SQL door.
    GetDoorRequest = GET "/v1/door-requests/{id}", Api, READ;

    /// Lists deadlines.
    ListDeadlines = GET "/v1/deadlines"
        ["state", "category", "recipient", "from", "to", "after", "page_size"], Api, READ;
    /// Puts a deadline.
    PutDeadline = PUT "/v1/deadlines/{key}", Api, WRITE;
    /// Shows a deadline.
    GetDeadline = GET "/v1/deadlines/{key}", Api, READ;
    /// Completes a deadline.
    CompleteDeadline = POST "/v1/deadlines/{key}/complete", Api, WRITE;
    /// Completes a deadline, and forgets it.
    DeleteDeadline = DELETE "/v1/deadlines/{key}", Api, WRITE;

    /// Lists dead letters.
    ListDeadLetters = GET "/v1/dead-letters" ["category", "reason", "from", "to", "after", "page_size"], Api, MANAGE;
    /// Gives dead letters another life.
    RedriveDeadLetters = POST "/v1/dead-letters/redrive", Api, MANAGE;

    /// Shows how each job stands.
    ListJobs = GET "/v1/jobs", Api, READ_OR_MANAGE;
    /// Shows how a job stands.
    GetJob = GET "/v1/jobs/{key}", Api, READ_OR_MANAGE;
    /// Registers a job of the tenant's domain.
    PutDomainJob = PUT "/v1/jobs/{key}", Api, MANAGE;
    /// Removes a job of the tenant's domain.
    DeleteDomainJob = DELETE "/v1/jobs/{key}", Api, MANAGE;
    /// Lists a job's runs.
    ListJobRuns = GET "/v1/jobs/{key}/runs" ["after", "page_size"], Api, READ_OR_MANAGE;
    /// Asks for a run of a job.
    RunJob = POST "/v1/jobs/{key}/run", Api, RUN;

    /// Lists the addresses that the tenant's mail leaves alone.
    ListSuppressions = GET "/v1/suppressions" ["reason", "source", "after", "page_size"], Api, MANAGE;
    /// Shows whether an address is suppressed.
    GetSuppression = GET "/v1/suppressions/{address}", Api, MANAGE;
    /// Suppresses an address.
    PutSuppression = PUT "/v1/suppressions/{address}", Api, MANAGE;
    /// Takes a suppression back.
    DeleteSuppression = DELETE "/v1/suppressions/{address}" ["even_complaint"], Api, MANAGE;

    /// Lists recipients.
    ListRecipients = GET "/v1/recipients" ["role", "after", "page_size"], Api, MANAGE;
    /// Puts many recipients.
    PutRecipients = POST "/v1/recipients", Api, MANAGE;
    /// Puts a recipient.
    PutRecipient = PUT "/v1/recipients/{id}", Api, MANAGE;
    /// Shows a recipient.
    GetRecipient = GET "/v1/recipients/{id}", Api, MANAGE_OR_SELF;
    /// Erases what is known of a recipient.
    DeleteRecipient = DELETE "/v1/recipients/{id}", Api, MANAGE;
    /// Shows what a recipient wants, and what holds.
    GetPreferences = GET "/v1/recipients/{id}/preferences", Api, MANAGE_OR_SELF;
    /// Replaces what a recipient wants.
    PutPreferences = PUT "/v1/recipients/{id}/preferences", Api, MANAGE_OR_SELF;
    /// Lists what a recipient agreed to.
    ListConsents = GET "/v1/recipients/{id}/consents" ["after", "page_size"], Api, MANAGE_OR_SELF;
    /// Enters what a recipient agreed to, or took back.
    AddConsent = POST "/v1/recipients/{id}/consents", Api, MANAGE_OR_SELF;
    /// Lists recipients whom nothing reaches.
    ListUnreachable = GET "/v1/reports/unreachable-recipients" ["after", "page_size"], Api, MANAGE;

    /// Shows what the tenant wants for those who say nothing.
    GetTenantPreferences = GET "/v1/preferences", Api, MANAGE;
    /// Replaces it.
    PutTenantPreferences = PUT "/v1/preferences", Api, MANAGE;
    /// Shows the tenant's settings.
    GetSettings = GET "/v1/settings", Api, MANAGE;
    /// Replaces them.
    PutSettings = PUT "/v1/settings", Api, MANAGE;

    /// Lists categories.
    ListCategories = GET "/v1/categories" ["after", "page_size"], Api, MANAGE;
    /// Puts a category.
    PutCategory = PUT "/v1/categories/{key}", Api, MANAGE;
    /// Shows a category.
    GetCategory = GET "/v1/categories/{key}", Api, MANAGE;

    /// Lists escalation policies.
    ListEscalationPolicies = GET "/v1/escalation-policies" ["after", "page_size"], Api, MANAGE;
    /// Puts an escalation policy.
    PutEscalationPolicy = PUT "/v1/escalation-policies/{key}", Api, MANAGE;
    /// Shows an escalation policy.
    GetEscalationPolicy = GET "/v1/escalation-policies/{key}", Api, MANAGE;
    /// Removes an escalation policy.
    DeleteEscalationPolicy = DELETE "/v1/escalation-policies/{key}", Api, MANAGE;
    /// Lists escalations.
    ListEscalations = GET "/v1/escalations" ["state", "key", "after", "page_size"], Api, READ;
    /// Starts an escalation.
    StartEscalation = POST "/v1/escalations", Api, WRITE;
    /// Shows an escalation.
    GetEscalation = GET "/v1/escalations/{id}", Api, READ;
    /// Says that somebody is on it.
    AcknowledgeEscalation = POST "/v1/escalations/{id}/acknowledge", Api, WRITE;
    /// Says that it is done.
    ResolveEscalation = POST "/v1/escalations/{id}/resolve", Api, WRITE;

    /// Lists templates.
    ListTemplates = GET "/v1/templates" ["after", "page_size"], Api, MANAGE;
    /// Puts a template's draft.
    PutTemplate = PUT "/v1/templates/{key}", Api, MANAGE;
    /// Shows a template.
    GetTemplate = GET "/v1/templates/{key}", Api, MANAGE;
    /// Makes a template's draft the version that is sent.
    PublishTemplate = POST "/v1/templates/{key}/publish", Api, MANAGE;
    /// Shows a published version.
    GetTemplateVersion = GET "/v1/templates/{key}/versions/{version}", Api, MANAGE;
    /// Renders a template as it would be sent.
    PreviewTemplate = POST "/v1/templates/{key}/preview", Api, MANAGE;
    /// Shows what a delivery said.
    GetDeliveryContent = GET "/v1/deliveries/{id}/content", Api, MANAGE;

    /// Lists what was changed, by whom, from what to what.
    ListChanges = GET "/v1/audit" ["table", "operation", "actor", "key", "from", "to", "after", "page_size"], Api, MANAGE;
    /// Verifies the chain of the audit log.
    VerifyAudit = GET "/v1/audit/verification" ["from_block"], Api, MANAGE;

    /// Lists the keys that sign the links in the tenant's mails.
    ListLinkKeys = GET "/v1/link-keys", Api, MANAGE;
    /// Gives the tenant one more key for the links in its mails.
    AddLinkKey = POST "/v1/link-keys", Api, MANAGE;
    /// Shows what a link of a mail would stop.
    ShowUnsubscribe = GET "/v1/unsubscribe/{token}", Api, Access::Public;
    /// Stops it, or takes that back.
    Unsubscribe = POST "/v1/unsubscribe/{token}", Api, Access::Public;
    /// Shows everything that a link's holder can choose.
    ShowPreferenceCenter = GET "/v1/preference-center/{token}", Api, Access::Public;
    /// Stores what was chosen.
    SavePreferenceCenter = POST "/v1/preference-center/{token}", Api, Access::Public;

    /// Shows everything that a batch's or a digest's mail told of.
    ShowCollected = GET "/v1/collected/{token}" ["page"], Api, Access::Public;

    /// Shows what a link of an escalation's mail would do.
    ShowAction = GET "/v1/actions/{token}", Api, Access::Public;
    /// Does it.
    Act = POST "/v1/actions/{token}", Api, Access::Public;

    /// Says whether the service can work.
    GetHealth = GET "/v1/health", Api, READ;
    /// Shows the OpenAPI document.
    GetOpenapi = GET "/v1/openapi.json", Api, ANY;
}

impl Route {
    /// The route of a key such as `GET /v1/notifications/{id}`.
    pub fn of(key: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|route| route.key() == key)
    }

    /// The names of the path's parameters, in order.
    pub fn parameters(self) -> impl Iterator<Item = &'static str> {
        self.path().split('/').filter_map(|step| step.strip_prefix('{')?.strip_suffix('}'))
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_route_is_found_by_its_key_and_no_key_is_there_twice() {
        for route in Route::ALL {
            assert_eq!(Route::of(route.key()), Some(*route));
        }
        let keys: BTreeSet<_> = Route::ALL.iter().map(|route| route.key()).collect();
        assert_eq!(keys.len(), Route::ALL.len());
        assert_eq!(Route::of("GET /v1/nonsense"), None);
    }
}
