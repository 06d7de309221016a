//! Buckets beside the stack, which the template does not create: of objects that producers send by reference, and of a token issuer.

use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration};

use crate::{Stack, variable};

/// The bucket in which tests publish the keys of an issuer of tokens. The template creates no such bucket.
pub const ISSUER_BUCKET: &str = "custody-token-issuer";

/// Returns the bucket whose objects producers may send by reference. The template creates no such bucket.
pub fn reference_bucket() -> String {
    variable("CUSTODY_REFERENCE_BUCKET")
}

impl Stack {
    /// Sets the content of an object that may be sent by reference, or deletes it.
    pub async fn set_reference_source(&self, key: &str, content: Option<Vec<u8>>) {
        let (s3, bucket) = (self.deployment.aws.s3(), reference_bucket());
        let region = variable("AWS_REGION");
        // us-east-1 is no location constraint; another Region must be one.
        let place = (region != "us-east-1").then(|| {
            CreateBucketConfiguration::builder()
                .location_constraint(BucketLocationConstraint::from(region.as_str()))
                .build()
        });
        // The bucket may be there already.
        drop(s3.create_bucket().bucket(&bucket).set_create_bucket_configuration(place).send().await);
        if let Some(content) = content {
            let put = s3.put_object().bucket(bucket).key(key).content_type("image/png");
            put.body(content.into()).send().await.expect("the object is stored");
        } else {
            s3.delete_object().bucket(bucket).key(key).send().await.expect("the object is deleted");
        }
    }
}
