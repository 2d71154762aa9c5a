//! What was asked.

use crate::error::Refusal;

/// One call as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// E.g. `DescribeDBInstances`.
    pub action: String,
    /// The other parameters, as they were written.
    pub parameters: Vec<(String, String)>,
    /// Who signed it.
    pub access_key: String,
}

impl Call {
    /// From the form and the header that signs it.
    pub(crate) fn parse(form: &str, authorization: &str) -> Self {
        let mut parameters: Vec<(String, String)> = form
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (decode(name), decode(value)))
            .collect();
        let at = parameters.iter().position(|(name, _)| name == "Action");
        let action = at.map(|at| parameters.remove(at).1).unwrap_or_default();
        let credential = authorization.split("Credential=").nth(1).unwrap_or_default();
        Self { action, parameters, access_key: credential.split('/').next().unwrap_or_default().to_owned() }
    }

    /// What IAM is asked for it: actions, each with the ARN of a resource.
    #[must_use]
    pub fn needs(&self) -> Vec<(String, String)> {
        crate::iam::needed(self)
    }

    /// A parameter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn need(&self, name: &str) -> Result<&str, Refusal> {
        let missing =
            || Refusal::new(400, "MissingParameter", format!("The request must contain the parameter {name}."));
        self.get(name).filter(|value| !value.is_empty()).ok_or_else(missing)
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        self.get(name) == Some("true")
    }

    /// The members of a list of structures, `List.Member.1.Field`: for each, the values of these fields.
    pub(crate) fn members<const N: usize>(
        &self,
        list: &str,
        member: &str,
        fields: [&str; N],
    ) -> Vec<[Option<&str>; N]> {
        let of = |n: usize| fields.map(|field| self.get(&format!("{list}.{member}.{n}.{field}")));
        (1..).map(of).take_while(|values| values.iter().any(Option::is_some)).collect()
    }

    /// One page of a list, and the marker of the next.
    pub(crate) fn page<T>(&self, all: Vec<T>) -> Result<(Vec<T>, Option<String>), Refusal> {
        let bad = |what: &str| Refusal::invalid(format!("Invalid value for {what}"));
        let from = self.get("Marker").map_or(Ok(0), str::parse::<usize>).map_err(|_| bad("Marker"))?;
        let records = self.get("MaxRecords").map_or(Ok(100), str::parse::<usize>).map_err(|_| bad("MaxRecords"))?;
        if !(20..=100).contains(&records) {
            return Err(Refusal::invalid("The parameter MaxRecords must be a value between 20 and 100."));
        }
        let next = from + records;
        let marker = (next < all.len()).then(|| next.to_string());
        Ok((all.into_iter().skip(from).take(records).collect(), marker))
    }
}

/// `application/x-www-form-urlencoded`.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next(), rest.next()].map(|digit| digit.and_then(|d| char::from(d).to_digit(16)));
                match digits {
                    [Some(high), Some(low)] => u8::try_from(high * 16 + low).unwrap_or(b'?'),
                    _ => b'?',
                }
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_a_call() {
        let form = "Action=ModifyDBParameterGroup&Version=2014-10-31&DBParameterGroupName=a%2Bb+c\
                    &Parameters.Parameter.1.ParameterName=x&Parameters.Parameter.1.ParameterValue=1&Parameters.Parameter.2.ParameterName=y";
        let call = Call::parse(
            form,
            "AWS4-HMAC-SHA256 Credential=AKIA/20260101/eu-west-1/rds/aws4_request, SignedHeaders=host",
        );
        assert_eq!((call.action.as_str(), call.access_key.as_str()), ("ModifyDBParameterGroup", "AKIA"));
        assert_eq!(call.get("DBParameterGroupName"), Some("a+b c"));
        let members = call.members("Parameters", "Parameter", ["ParameterName", "ParameterValue"]);
        assert_eq!(members, [[Some("x"), Some("1")], [Some("y"), None]]);
    }

    #[test]
    fn pages_follow_each_other() {
        let mut call = Call::parse("Action=x&MaxRecords=20", "");
        let (first, marker) = call.page((0..25).collect()).unwrap();
        assert_eq!((first.len(), marker.as_deref()), (20, Some("20")));
        call.parameters.push(("Marker".into(), "20".into()));
        assert_eq!(call.page((0..25).collect()).unwrap(), ((20..25).collect(), None));
    }
}
