//! Rules that `template.yaml` must keep and that no linter knows.

#![allow(clippy::unwrap_used, reason = "helpers of tests; a template that is not as expected fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use adapters::wire::access::{Access, Scope};
use adapters::wire::job_event::RUN_REQUESTED;
use adapters::wire::routes::{Function, Route};
use domain::job::Job;
use local::issuer::ALL_SCOPES;
use saphyr::{LoadableYamlNode, ScalarOwned, YamlOwned};
use serde_json::{Map, Value, json};

/// The most attempts that a category may allow; `max_attempts_is_bounded` in the migrations.
const MOST_ATTEMPTS: u64 = 8;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn template() -> Value {
    let text = std::fs::read_to_string(root().join("template.yaml")).unwrap();
    to_json(&YamlOwned::load_from_str(&text).unwrap()[0])
}

/// Short forms become long ones: `!Ref X` is `{"Ref": "X"}`, `!GetAtt X.Arn` is `{"Fn::GetAtt": "X.Arn"}`.
fn to_json(yaml: &YamlOwned) -> Value {
    match yaml {
        YamlOwned::Tagged(tag, node) => {
            let name = match tag.suffix.as_str() {
                "Ref" | "Condition" => tag.suffix.clone(),
                other => format!("Fn::{other}"),
            };
            json!({name: to_json(node)})
        }
        YamlOwned::Sequence(items) => items.iter().map(to_json).collect(),
        YamlOwned::Mapping(members) => Value::Object(
            members
                .iter()
                .map(|(key, value)| (key.as_str().unwrap().to_owned(), to_json(value)))
                .collect::<Map<_, _>>(),
        ),
        YamlOwned::Value(ScalarOwned::Null) => Value::Null,
        YamlOwned::Value(ScalarOwned::Boolean(value)) => json!(value),
        YamlOwned::Value(ScalarOwned::Integer(value)) => json!(value),
        YamlOwned::Value(ScalarOwned::FloatingPoint(value)) => json!(value.into_inner()),
        YamlOwned::Value(ScalarOwned::String(value)) => json!(value),
        YamlOwned::Representation(..) | YamlOwned::Alias(_) | YamlOwned::BadValue => panic!("unread YAML: {yaml:?}"),
    }
}

fn resources(template: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    template["Resources"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, resource)| (name.as_str(), resource["Type"].as_str().unwrap(), &resource["Properties"]))
}

fn of_type<'a>(template: &'a Value, wanted: &str) -> Vec<(&'a str, &'a Value)> {
    let found: Vec<_> = resources(template)
        .filter(|(_, kind, _)| *kind == wanted)
        .map(|(name, _, properties)| (name, properties))
        .collect();
    assert!(!found.is_empty(), "template.yaml has no {wanted}; the rule would hold for nothing");
    found
}

/// The logical name in `!GetAtt Name.Arn` or `!Ref Name`.
fn logical_name(value: &Value) -> &str {
    let text = value["Fn::GetAtt"].as_str().or_else(|| value["Ref"].as_str()).unwrap();
    text.split('.').next().unwrap()
}

/// Every value of a member of this name, however deep.
fn members<'a>(value: &'a Value, name: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                if key == name {
                    found.push(value);
                }
                members(value, name, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| members(item, name, found)),
        _ => {}
    }
}

fn all_members<'a>(value: &'a Value, name: &str) -> Vec<&'a Value> {
    let mut found = Vec::new();
    members(value, name, &mut found);
    found
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_str().map_or_else(
        || value.as_array().unwrap().iter().map(|item| item.as_str().unwrap()).collect(),
        |text| vec![text],
    )
}

/// Every statement of every policy of a role or a queue.
fn statements(template: &Value) -> Vec<(&str, &Value)> {
    let mut found = Vec::new();
    for (name, _, properties) in resources(template) {
        for document in all_members(properties, "PolicyDocument") {
            let mut statements = Vec::new();
            collect_statements(&document["Statement"], &mut statements);
            found.extend(statements.into_iter().map(|statement| (name, statement)));
        }
    }
    assert!(found.len() > 20, "the policies were not found");
    found
}

fn collect_statements<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(object) if object.contains_key("Effect") => found.push(value),
        Value::Object(object) => object.values().for_each(|value| collect_statements(value, found)),
        Value::Array(items) => items.iter().for_each(|item| collect_statements(item, found)),
        _ => {}
    }
}

#[test]
fn template_and_functions_agree() {
    let template = template();
    let declared: BTreeSet<String> = of_type(&template, "AWS::Serverless::Function")
        .into_iter()
        .map(|(name, function)| {
            let uri = function["CodeUri"].as_str().unwrap();
            let folder = uri.strip_prefix("target/lambda/").and_then(|uri| uri.strip_suffix("/bootstrap.zip"));
            let folder =
                folder.unwrap_or_else(|| panic!("{name}: CodeUri must be where cargo lambda build writes, not {uri}"));
            assert_eq!(
                function["FunctionName"]["Fn::Sub"],
                format!("${{AWS::StackName}}-{folder}"),
                "{name}: a function is called like its folder"
            );
            folder.to_owned()
        })
        .collect();
    let written: BTreeSet<String> = std::fs::read_dir(root().join("functions"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().join("Cargo.toml").exists())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    assert_eq!(declared, written, "template.yaml and functions/ name the same functions");
    assert_eq!(
        written,
        local::project::FUNCTIONS.iter().map(|name| (*name).to_owned()).collect(),
        "the local stack builds and deploys the same functions"
    );
}

#[test]
fn each_function_has_a_role_and_a_log_group_of_its_own() {
    let template = template();
    let functions = of_type(&template, "AWS::Serverless::Function");
    let roles: BTreeSet<&str> = functions.iter().map(|(_, function)| logical_name(&function["Role"])).collect();
    let groups: BTreeSet<&str> =
        functions.iter().map(|(_, function)| logical_name(&function["LoggingConfig"]["LogGroup"])).collect();
    assert_eq!(roles.len(), functions.len(), "one least-privilege policy for each function");
    assert_eq!(groups.len(), functions.len());
    for (name, group) in of_type(&template, "AWS::Logs::LogGroup") {
        assert!(!group["RetentionInDays"].is_null(), "{name} would keep its logs for ever");
    }
}

#[test]
fn every_queue_has_a_dead_letter_queue_or_is_one() {
    let template = template();
    let targets: BTreeSet<&str> = all_members(&template, "deadLetterTargetArn")
        .into_iter()
        .chain(all_members(&template, "DeadLetterConfig").into_iter().map(|config| &config["Arn"]))
        .chain(all_members(&template, "OnFailure").into_iter().map(|failure| &failure["Destination"]))
        .map(logical_name)
        .collect();
    for (name, queue) in of_type(&template, "AWS::SQS::Queue") {
        assert!(
            targets.contains(name) || !queue["RedrivePolicy"].is_null(),
            "{name} has no dead-letter queue: a poison message would be received for ever"
        );
    }
}

#[test]
fn a_dead_letter_queue_keeps_longer_than_its_source() {
    let template = template();
    let mut seen = 0;
    for (name, queue) in of_type(&template, "AWS::SQS::Queue") {
        let Some(target) = queue["RedrivePolicy"].get("deadLetterTargetArn") else { continue };
        let target = &template["Resources"][logical_name(target)]["Properties"];
        let (source, dead) = (&queue["MessageRetentionPeriod"], &target["MessageRetentionPeriod"]);
        assert!(
            dead.as_u64().unwrap() > source.as_u64().unwrap(),
            "{name}: a moved message keeps its first timestamp, so it would vanish from the dead-letter queue"
        );
        seen += 1;
    }
    assert!(seen > 0);
}

#[test]
fn a_message_is_received_often_enough_to_use_up_its_attempts() {
    let template = template();
    let counts = all_members(&template, "maxReceiveCount");
    assert!(!counts.is_empty());
    for count in counts {
        assert!(
            count.as_u64().unwrap() >= 3 * MOST_ATTEMPTS,
            "throttles and duplicates count as receives; the database counts attempts"
        );
    }
}

#[test]
fn every_queue_consumer_reports_its_failures_and_has_time_to_be_throttled() {
    let template = template();
    let default_timeout = template["Globals"]["Function"]["Timeout"].as_u64().unwrap();
    for (name, source) in of_type(&template, "AWS::Lambda::EventSourceMapping") {
        assert_eq!(
            source["FunctionResponseTypes"],
            json!(["ReportBatchItemFailures"]),
            "{name}: without it one bad record takes its batch with it"
        );
        assert!(!source["ScalingConfig"]["MaximumConcurrency"].is_null(), "{name}: an unbounded consumer is throttled");
        let function = &template["Resources"][logical_name(&source["FunctionName"])]["Properties"];
        let queue = &template["Resources"][logical_name(&source["EventSourceArn"])]["Properties"];
        let timeout = function["Timeout"].as_u64().unwrap_or(default_timeout);
        assert!(
            queue["VisibilityTimeout"].as_u64().unwrap() >= 6 * timeout,
            "{name}: visibility must be at least 6 x the function's timeout"
        );
    }
}

#[test]
fn every_queue_refuses_plain_http() {
    let template = template();
    let mut refusing = BTreeSet::new();
    for (name, policy) in of_type(&template, "AWS::SQS::QueuePolicy") {
        let statements = policy["PolicyDocument"]["Statement"].as_array().unwrap();
        assert!(
            statements.iter().any(|statement| statement["Effect"] == "Deny"
                && statement["Condition"]["Bool"]["aws:SecureTransport"] == "false"),
            "{name} does not refuse plain HTTP"
        );
        refusing.extend(policy["Queues"].as_array().unwrap().iter().map(logical_name));
    }
    let queues: BTreeSet<&str> = of_type(&template, "AWS::SQS::Queue").into_iter().map(|(name, _)| name).collect();
    assert_eq!(queues, refusing);
}

#[test]
fn no_policy_allows_a_star_of_actions() {
    let template = template();
    for (name, statement) in statements(&template) {
        for action in texts(&statement["Action"]) {
            assert!(!action.contains('*'), "{name}: {action}");
        }
        let has_no_resource = texts(&statement["Action"]).iter().all(|action| {
            // Network interfaces, and two reads of the mail account as a whole: IAM knows nothing narrower for them.
            action.starts_with("ec2:") || ["ses:ListSuppressedDestinations", "ses:GetAccount"].contains(action)
        });
        assert!(statement["Resource"] != "*" || has_no_resource, "{name} allows something on every resource");
    }
}

#[test]
fn mail_leaves_only_from_allowed_addresses_and_only_from_the_processor() {
    let template = template();
    let mut seen = 0;
    for (name, statement) in statements(&template) {
        let actions = texts(&statement["Action"]);
        if name == "FeedbackRole" && actions.iter().any(|action| action.starts_with("ses:")) {
            assert_eq!(actions, ["ses:ListSuppressedDestinations", "ses:GetAccount"], "feedback reads and never sends");
        } else if actions.iter().any(|action| action.starts_with("ses:")) {
            assert_eq!(name, "ProcessorRole", "only the processor calls a provider");
            assert!(
                !statement["Condition"]["StringLike"]["ses:FromAddress"].is_null(),
                "{name}: any sender could be forged"
            );
            seen += 1;
        }
    }
    assert!(seen > 0);
}

/// A data key that was wrapped for one tenant is opened for no other, and only by who needs it.
#[test]
fn data_keys_are_bound_to_their_tenant_and_the_master_key_is_kept() {
    let template = template();
    let key = &template["Resources"]["DataKey"];
    assert_eq!(key["Properties"]["EnableKeyRotation"], true);
    for policy in ["DeletionPolicy", "UpdateReplacePolicy"] {
        assert_eq!(key[policy], "Retain", "without the key, every tenant's secrets are lost");
    }
    let mut users = BTreeSet::new();
    for (name, statement) in statements(&template) {
        let actions = texts(&statement["Action"]);
        if !actions.iter().any(|action| action.starts_with("kms:")) {
            continue;
        }
        if !statement["Condition"]["StringEquals"]["kms:ViaService"].is_null() {
            assert_eq!(actions, ["kms:Decrypt"], "{name}: Secrets Manager's own key");
            continue;
        }
        assert_eq!(logical_name(&statement["Resource"]), "DataKey", "{name}");
        let condition = &statement["Condition"];
        assert_eq!(condition["ForAllValues:StringEquals"]["kms:EncryptionContextKeys"], json!(["tenant"]), "{name}");
        assert_eq!(
            condition["Null"]["kms:EncryptionContext:tenant"], "false",
            "{name}: a key for nobody in particular"
        );
        users.insert(name);
    }
    let expected = BTreeSet::from(["ApiRole", "DomainJobRole", "ProcessorRole"]);
    assert_eq!(users, expected, "who signs links and calls, and who verifies links");
}

/// A route as `template.yaml` must declare it.
fn declare_route(route: Route) -> Value {
    let integration = match route.function() {
        Function::Enqueue => "EnqueueIntegration",
        Function::Api => "ApiIntegration",
    };
    let mut declared = json!({
        "ApiId": {"Ref": "HttpApi"},
        "RouteKey": route.key(),
        "Target": {"Fn::Sub": format!("integrations/${{{integration}}}")},
    });
    match route.access() {
        Access::Public => declared["AuthorizationType"] = "NONE".into(),
        Access::Scopes(scopes) => {
            declared["AuthorizationType"] = "JWT".into();
            declared["AuthorizerId"] = json!({"Ref": "TokenAuthorizer"});
            declared["AuthorizationScopes"] = scopes.iter().map(|scope| scope.as_str()).collect();
        }
    }
    declared
}

/// The text of a route's resource, to be pasted where it is missing.
fn print_route(route: Route) -> String {
    let declared = declare_route(route);
    let authorization = match route.access() {
        Access::Public => "      AuthorizationType: NONE\n".to_owned(),
        Access::Scopes(scopes) => format!(
            "      AuthorizationType: JWT\n      AuthorizerId: !Ref TokenAuthorizer\n      AuthorizationScopes: [{}]\n",
            scopes.iter().map(|scope| format!("\"{scope}\"")).collect::<Vec<_>>().join(", ")
        ),
    };
    format!(
        "  {}Route:\n    Type: AWS::ApiGatewayV2::Route\n    Properties:\n      ApiId: !Ref HttpApi\n      \
         RouteKey: {}\n{authorization}      Target: !Sub {}\n",
        route.name(),
        route.key(),
        declared["Target"]["Fn::Sub"],
    )
}

/// So a route without an authorizer is one that the table calls public, and there is no `$default` that would answer
/// what no route names.
#[test]
fn the_template_declares_the_routes_of_the_table_and_no_other() {
    let template = template();
    let wanted: BTreeMap<String, Route> =
        Route::ALL.iter().map(|route| (format!("{}Route", route.name()), *route)).collect();
    let found: BTreeMap<&str, &Value> = of_type(&template, "AWS::ApiGatewayV2::Route").into_iter().collect();
    for (name, route) in &wanted {
        let wanted = declare_route(*route);
        assert_eq!(found.get(name.as_str()), Some(&&wanted), "template.yaml should have:\n\n{}", print_route(*route));
    }
    let more: Vec<_> = found.keys().filter(|name| !wanted.contains_key(**name)).collect();
    assert!(more.is_empty(), "wire::routes knows nothing of {more:?}");
    assert!(
        resources(&template).all(|(_, kind, _)| kind != "AWS::Serverless::HttpApi" && kind != "AWS::Serverless::Api"),
        "an API declared as a whole hides its routes from these rules"
    );
}

/// Their paths and methods are what the resource policies of the two functions let API Gateway call.
#[test]
fn api_gateway_may_call_each_function_for_its_routes() {
    let template = template();
    for route in Route::ALL {
        let permission = match route.function() {
            Function::Enqueue => "EnqueueApiPermission",
            Function::Api => "ApiApiPermission",
        };
        let source = template["Resources"][permission]["Properties"]["SourceArn"]["Fn::Sub"].as_str().unwrap();
        let (_, pattern) = source.split_once("${HttpApi}/*/").unwrap();
        let called = format!("{}{}", route.method(), route.path());
        let mut rest = called.as_str();
        for part in pattern.split('*') {
            let at = rest.find(part).unwrap_or_else(|| panic!("{permission} does not cover {route}"));
            rest = &rest[at + part.len()..];
        }
        assert!(rest.is_empty() || pattern.ends_with('*'), "{permission} does not cover {route}");
    }
}

/// The README's table of routes is what people read first.
#[test]
fn the_readme_names_the_routes_of_the_table_with_their_scopes() {
    let readme = include_str!("../../../README.md");
    let mut found = BTreeSet::new();
    for line in readme.lines().filter(|line| line.starts_with("| `") && line.contains("/v1/")) {
        let cells: Vec<&str> = line.split(" | ").collect();
        // "`PUT`, `GET /v1/…`" are two routes of one path.
        let path = cells[0].rfind("/v1/").map(|at| cells[0][at..].trim_end_matches('`')).expect("a path");
        for method in ["GET", "POST", "PUT", "DELETE"].into_iter().filter(|method| cells[0].contains(method)) {
            found.insert((format!("{method} {path}"), cells[1].to_owned()));
        }
    }
    let wanted = Route::ALL.iter().map(|route| {
        let scopes = match route.access() {
            Access::Public => "public".to_owned(),
            Access::Scopes(scopes) => scopes.iter().map(|scope| format!("`{scope}`")).collect::<Vec<_>>().join(", "),
        };
        (route.key().to_owned(), scopes)
    });
    assert_eq!(found, wanted.collect());
}

/// What the issuer calls all scopes is what a tenant's people and programs can have; a recipient's own is not among them.
#[test]
fn a_token_with_all_scopes_has_those_of_the_routes() {
    for scope in Scope::OF_TENANT {
        assert!(ALL_SCOPES.split(' ').any(|name| name == scope.as_str()), "{scope}");
    }
    assert!(ALL_SCOPES.split(' ').all(|name| name != Scope::OwnRecipient.as_str()));
}

#[test]
fn every_rule_says_what_becomes_of_an_event_that_cannot_be_handed_over() {
    let template = template();
    for (name, rule) in of_type(&template, "AWS::Events::Rule") {
        for target in rule["Targets"].as_array().unwrap() {
            let retries = target["RetryPolicy"]["MaximumRetryAttempts"].as_u64();
            assert!(
                retries == Some(0) || (retries.is_some() && !target["DeadLetterConfig"].is_null()),
                "{name}: an event that is worth retrying is worth keeping"
            );
            let function = logical_name(&target["Arn"]);
            if template["Resources"][function]["Type"] == "AWS::SQS::Queue" {
                continue;
            }
            assert!(
                of_type(&template, "AWS::Lambda::EventInvokeConfig")
                    .iter()
                    .any(|(_, config)| logical_name(&config["FunctionName"]) == function),
                "{name}: Lambda drops what {function} fails to take, unless told otherwise"
            );
        }
    }
}

/// The rules of the kind that hand a job's function something, and the permission that each needs.
fn rules_of<'a>(template: &'a Value, job: Job, member: &str) -> Vec<&'a Value> {
    let named = |value: &Value| template["Resources"][logical_name(value)]["Properties"]["CodeUri"].clone();
    let uri = json!(format!("target/lambda/{job}/bootstrap.zip"));
    let rules: Vec<_> = of_type(template, "AWS::Events::Rule")
        .into_iter()
        .filter(|(_, rule)| !rule[member].is_null() && named(&rule["Targets"][0]["Arn"]) == uri)
        .collect();
    for (name, rule) in &rules {
        let function = logical_name(&rule["Targets"][0]["Arn"]);
        let is_permitted = of_type(template, "AWS::Lambda::Permission").iter().any(|(_, permission)| {
            permission["SourceArn"]["Fn::GetAtt"] == format!("{name}.Arn")
                && permission["FunctionName"]["Ref"] == function
        });
        assert!(is_permitted, "{name} may not invoke {function}");
    }
    rules.into_iter().map(|(_, rule)| rule).collect()
}

/// Whoever may ask for a run puts an event on the bus; only EventBridge and the queues invoke.
#[test]
fn no_function_may_invoke_another() {
    let template = template();
    let resources = template["Resources"].as_object().expect("resources");
    for (name, resource) in resources.iter().filter(|(_, resource)| resource["Type"] != "AWS::Lambda::Permission") {
        assert!(!resource.to_string().contains("lambda:Invoke"), "{name} lets somebody invoke a function");
    }
}

#[test]
fn each_job_has_its_schedule_a_rule_for_requests_and_a_heartbeat() {
    let template = template();
    let mut scheduled = 0;
    for job in Job::ALL {
        let schedules = rules_of(&template, *job, "ScheduleExpression");
        assert_eq!(schedules.len(), 1, "{job} has one schedule");
        assert_eq!(schedules[0]["ScheduleExpression"], job.rate().to_string(), "domain::job says how often {job} runs");
        scheduled += 1;
        let requests = rules_of(&template, *job, "EventPattern");
        let pattern = json!({
            "account": [{"Ref": "AWS::AccountId"}], "detail-type": [RUN_REQUESTED], "detail": {"job": [job.as_str()]},
        });
        assert!(
            requests.iter().any(|rule| rule["EventPattern"] == pattern && rule["EventBusName"]["Ref"] == "Bus"),
            "nobody hands {job} a request for a run"
        );
        let function = logical_name(&schedules[0]["Targets"][0]["Arn"]);
        let logs = logical_name(&template["Resources"][function]["Properties"]["LoggingConfig"]["LogGroup"]);
        let runs: Vec<&Value> = of_type(&template, "AWS::Logs::MetricFilter")
            .into_iter()
            .filter(|(_, filter)| logical_name(&filter["LogGroupName"]) == logs)
            .filter(|(_, filter)| filter["FilterPattern"] == "{ $.metric = \"job_run_started\" }")
            .map(|(_, filter)| &filter["MetricTransformations"][0]["MetricName"])
            .collect();
        let is_heard = of_type(&template, "AWS::CloudWatch::Alarm").iter().any(|(_, alarm)| {
            let counts_runs = runs.contains(&&alarm["MetricName"])
                || (alarm["MetricName"] == "Invocations" && alarm["Dimensions"][0]["Value"]["Ref"] == function);
            counts_runs
                && alarm["TreatMissingData"] == "breaching"
                && alarm["ComparisonOperator"] == "LessThanThreshold"
        });
        assert!(is_heard, "nobody hears that {job} has stopped running");
        for word in ["job_failing", "job_alert_unsent"] {
            let is_counted = of_type(&template, "AWS::Logs::MetricFilter").iter().any(|(_, filter)| {
                logical_name(&filter["LogGroupName"]) == logs
                    && filter["FilterPattern"] == format!("{{ $.metric = \"{word}\" }}")
            });
            assert!(is_counted, "nobody counts {word} in the log of {job}");
        }
    }
    for word in ["job_failing", "job_alert_unsent", "domain_job_alert_unsent"] {
        let filters = of_type(&template, "AWS::Logs::MetricFilter");
        let counted = filters
            .iter()
            .filter(|(_, filter)| filter["FilterPattern"] == format!("{{ $.metric = \"{word}\" }}"))
            .any(|(_, filter)| filter["MetricTransformations"][0]["MetricName"] == word);
        let is_heard =
            of_type(&template, "AWS::CloudWatch::Alarm").iter().any(|(_, alarm)| alarm["MetricName"] == word);
        assert!(counted && is_heard, "nobody hears of {word}");
    }
    let all = of_type(&template, "AWS::Events::Rule")
        .iter()
        .filter(|(_, rule)| !rule["ScheduleExpression"].is_null())
        .count();
    assert_eq!(all, scheduled, "what a schedule starts is a job of domain::job");
}

#[test]
fn every_function_has_an_alarm_and_every_alarm_is_in_the_runbook() {
    let template = template();
    let runbook = std::fs::read_to_string(root().join("infra/runbook.md")).unwrap();
    let alarms = of_type(&template, "AWS::CloudWatch::Alarm");
    for (name, _) in &alarms {
        assert!(runbook.contains(name), "infra/runbook.md does not say what to do for {name}");
    }
    for (name, _) in of_type(&template, "AWS::Serverless::Function") {
        assert!(
            alarms
                .iter()
                .any(|(_, alarm)| alarm["MetricName"] == "Errors" && alarm["Dimensions"][0]["Value"]["Ref"] == name),
            "nobody hears of errors of {name}"
        );
    }
}

#[test]
fn the_dashboard_shows_the_errors_of_every_function_and_the_runs_of_every_job() {
    let template = template();
    let (_, dashboard) = of_type(&template, "AWS::CloudWatch::Dashboard")[0];
    let body = dashboard["DashboardBody"]["Fn::Sub"].as_str().expect("a text");
    let body: Value = serde_json::from_str(body).expect("the dashboard is JSON");
    let widgets = body["widgets"].as_array().expect("widgets");
    let metrics = |title: &str| {
        let widget = widgets.iter().find(|widget| widget["properties"]["title"] == title).expect("a widget");
        widget["properties"]["metrics"].as_array().expect("metrics").clone()
    };
    for (name, _) in of_type(&template, "AWS::Serverless::Function") {
        let shown = json!(["AWS/Lambda", "Errors", "FunctionName", format!("${{{name}}}")]);
        assert!(metrics("Errors").contains(&shown), "nobody sees the errors of {name}");
    }
    for job in Job::ALL {
        let labels = [format!("ticks of {job}"), format!("runs of {job}")];
        let is_shown =
            |metric: &Value| labels.iter().any(|label| all_members(metric, "label").contains(&&json!(label)));
        assert!(metrics("Jobs").iter().any(is_shown), "nobody sees the runs of {job}");
    }
}

/// The AWS CLI takes a payload for base64 where nothing else is said.
#[test]
fn every_command_that_invokes_a_function_says_that_its_payload_is_text() {
    for page in ["README.md", "infra/runbook.md", "infra/database.md"] {
        let page = std::fs::read_to_string(root().join(page)).unwrap();
        let count = |words: &str| page.matches(words).count();
        assert_eq!(count("aws lambda invoke"), count("--cli-binary-format raw-in-base64-out"), "{page}");
    }
}

/// Events are best effort on either way, so both have to be there, and tell the same.
#[test]
fn ses_tells_of_mails_on_two_ways_into_one_queue() {
    let template = template();
    let destinations: Vec<&Value> = of_type(&template, "AWS::SES::ConfigurationSetEventDestination")
        .into_iter()
        .map(|(_, properties)| &properties["EventDestination"])
        .collect();
    assert_eq!(destinations.len(), 2);
    let kinds = texts(&destinations[0]["MatchingEventTypes"]);
    assert_eq!(kinds, texts(&destinations[1]["MatchingEventTypes"]));
    assert_eq!(kinds.len(), 7);
    assert!(destinations.iter().any(|it| !it["EventBridgeDestination"].is_null()));
    assert!(destinations.iter().any(|it| !it["SnsDestination"].is_null()));

    let rule = &template["Resources"]["MailEventsRule"]["Properties"];
    assert!(rule["EventBusName"].is_null(), "SES publishes to the default bus only");
    assert_eq!(texts(&rule["EventPattern"]["detail-type"]).len(), kinds.len());
    let set = &rule["EventPattern"]["detail"]["mail"]["tags"]["ses:configuration-set"][0];
    assert_eq!(set["Ref"], "ConfigurationSet", "other applications of the account have mails, too");
    let subscription = &template["Resources"]["MailEventsSubscription"]["Properties"];
    for target in [&rule["Targets"][0]["Arn"], &subscription["Endpoint"]] {
        assert_eq!(logical_name(target), "FeedbackQueue");
    }
    assert!(!subscription["RedrivePolicy"]["deadLetterTargetArn"].is_null());
}

/// The signature of SNS is not checked, because nobody else can write there.
#[test]
fn only_our_rule_and_our_topic_put_events_on_the_feedback_queue() {
    let template = template();
    let allowed: Vec<&Value> = statements(&template)
        .into_iter()
        .filter(|(name, statement)| *name == "FeedbackQueuePolicy" && statement["Effect"] == "Allow")
        .map(|(_, statement)| statement)
        .collect();
    assert_eq!(allowed.len(), 2);
    for (statement, source) in allowed.iter().zip(["MailEventsRule", "MailEventsTopic"]) {
        assert_eq!(logical_name(&statement["Condition"]["ArnEquals"]["aws:SourceArn"]), source);
        assert_eq!(texts(&statement["Action"]), ["sqs:SendMessage"]);
    }
    let publish = statements(&template).into_iter().find(|(name, _)| *name == "MailEventsTopicPolicy").unwrap().1;
    let condition = &publish["Condition"]["StringEquals"];
    assert!(!condition["AWS:SourceAccount"].is_null() && !condition["AWS:SourceArn"].is_null());
}
