//! Deploys `template.yaml` as it is: the zips go to S3, the template names them, CloudFormation does the rest.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::aws::{Aws, element, elements};
use crate::failure::{Failure, Outcome, While};
use crate::functions::Package;
use crate::project::Project;

/// The stack's name; functions are called `harkara-enqueue` and so on.
pub const STACK: &str = "harkara";

/// Holds the functions' zips and the template.
const BUCKET: &str = "harkara-code";

/// Values for the template's parameters.
pub type Parameters = Vec<(&'static str, String)>;

/// What the stack says of itself: the template's outputs.
#[derive(Debug)]
pub struct Outputs(Vec<(String, String)>);

impl Outputs {
    /// The value of an output.
    ///
    /// Errors: the template has no such output.
    pub fn get(&self, name: &str) -> Outcome<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .ok_or_else(|| Failure::new(format!("template.yaml has no output {name}")))
    }
}

/// The template with each function's `CodeUri` pointing at its object, as `sam package` writes it.
///
/// Errors: the template has no such function, or cannot be read.
fn package_template(project: &Project, packages: &[Package]) -> Outcome<String> {
    let path = project.root().join("template.yaml");
    let mut template = std::fs::read_to_string(&path).while_doing(format_args!("reading {}", path.display()))?;
    for package in packages {
        let local = format!("CodeUri: target/lambda/{}/bootstrap.zip", package.name);
        if !template.contains(&local) {
            return Err(Failure::new(format!("template.yaml has no `{local}`")));
        }
        template = template.replace(&local, &format!("CodeUri: s3://{BUCKET}/{}", key_of(package)));
    }
    Ok(template)
}

fn key_of(package: &Package) -> String {
    format!("{}/{}.zip", package.name, package.fingerprint)
}

/// Creates the stack or brings it up to date, and waits until it is.
///
/// Errors: CloudFormation refuses or rolls back; the message holds its reasons.
pub fn deploy(project: &Project, aws: &Aws, packages: &[Package], parameters: &Parameters) -> Outcome<Outputs> {
    aws.make_bucket(BUCKET)?;
    for package in packages {
        aws.put_object(BUCKET, &key_of(package), &package.zip)?;
    }
    let template = package_template(project, packages)?;
    aws.put_object(BUCKET, "template.yaml", template.as_bytes())?;

    let mut form = vec![
        ("StackName".to_owned(), STACK.to_owned()),
        ("TemplateURL".to_owned(), format!("https://s3.amazonaws.com/{BUCKET}/template.yaml")),
        ("Capabilities.member.1".to_owned(), "CAPABILITY_IAM".to_owned()),
        ("Capabilities.member.2".to_owned(), "CAPABILITY_AUTO_EXPAND".to_owned()),
    ];
    for (n, (name, value)) in parameters.iter().enumerate() {
        form.push((format!("Parameters.member.{}.ParameterKey", n + 1), (*name).to_owned()));
        form.push((format!("Parameters.member.{}.ParameterValue", n + 1), value.clone()));
    }
    let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();

    let exists = aws.cloudformation("DescribeStacks", &[("StackName", STACK)]).is_ok();
    if exists {
        if let Err(refusal) = aws.cloudformation("UpdateStack", &form)
            && !refusal.to_string().contains("No updates are to be performed")
        {
            return Err(refusal);
        }
    } else {
        aws.cloudformation("CreateStack", &form)?;
    }
    let outputs = wait(aws)?;
    aws.mend_event_source_mappings()?;
    Ok(outputs)
}

fn wait(aws: &Aws) -> Outcome<Outputs> {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let xml = aws.cloudformation("DescribeStacks", &[("StackName", STACK)])?;
        match element(&xml, "StackStatus").unwrap_or_default() {
            "CREATE_COMPLETE" | "UPDATE_COMPLETE" => {
                let outputs = element(&xml, "Outputs").unwrap_or_default();
                let keys = elements(outputs, "OutputKey");
                let values = elements(outputs, "OutputValue");
                return Ok(Outputs(
                    keys.into_iter().map(str::to_owned).zip(values.into_iter().map(str::to_owned)).collect(),
                ));
            }
            status if status.ends_with("_IN_PROGRESS") && Instant::now() < deadline => {
                sleep(Duration::from_millis(50));
            }
            status => {
                let events = aws.cloudformation("DescribeStackEvents", &[("StackName", STACK)])?;
                let reasons: Vec<String> = elements(&events, "member")
                    .into_iter()
                    .filter(|event| element(event, "ResourceStatus").is_some_and(|status| status.ends_with("_FAILED")))
                    .map(|event| {
                        format!(
                            "{}: {}",
                            element(event, "LogicalResourceId").unwrap_or_default(),
                            element(event, "ResourceStatusReason").unwrap_or_default()
                        )
                    })
                    .collect();
                return Err(Failure::new(format!("the stack is {status}: {}", reasons.join("; ")))
                    .with_advice("Mend template.yaml; `cargo local down` and `up` start from nothing."));
            }
        }
    }
}
