package kms

import (
	"context"
	"net/http"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	awsapi "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/tink-crypto/tink-go-awskms/v3/integration/awskms"
	"github.com/tink-crypto/tink-go/v2/core/registry"

	"github.com/kidoban/kidoban"
)

const awsScheme = "aws-kms://"

// openAWS is a key of AWS KMS by its ARN: aws-kms://arn:aws:kms:REGION:ACCOUNT:key/ID.
//
// Credentials and endpoint come as for every AWS tool: variables of the
// environment, the shared files, a web identity, the container's or the machine's
// role. The SDK reads the process's environment by itself.
func openAWS(ctx context.Context, uri string, o Options) (registry.KMSClient, error) {
	part := strings.SplitN(strings.TrimPrefix(uri, awsScheme), ":", 6)
	if len(part) != 6 || part[0] != "arn" || part[2] != "kms" || part[3] == "" || !strings.HasPrefix(part[5], "key/") && !strings.HasPrefix(part[5], "alias/") {
		return nil, kidoban.Errorf(kidoban.KindUsage, "the key %.200q is not aws-kms://arn:aws:kms:REGION:ACCOUNT:key/ID", uri)
	}
	// The SDK adds what AWS_CA_BUNDLE names to a client of its own kind only.
	out := awshttp.NewBuildableClient().WithTimeout(patience).WithTransportOptions(func(t *http.Transport) {
		t.Proxy, t.DialContext = nil, o.TLS.DialContext
	})
	c, err := config.LoadDefaultConfig(ctx, config.WithRegion(part[3]), config.WithHTTPClient(out))
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindUsage, err, "the AWS configuration of this process cannot be read")
	}
	client, err := awskms.NewClientWithOptions(ctx, uri, awskms.WithKMS(awsapi.NewFromConfig(c, func(o *awsapi.Options) {
		o.HTTPClient = bounded{o.HTTPClient}
	})))
	return client, kidoban.Wrap(kidoban.KindUsage, err, "the key %.200q cannot be used", uri)
}

// bounded cuts answers at the bound.
type bounded struct{ awsapi.HTTPClient }

// Do implements awsapi.HTTPClient.
func (b bounded) Do(req *http.Request) (*http.Response, error) {
	res, err := b.HTTPClient.Do(req)
	if err == nil {
		res.Body = http.MaxBytesReader(nil, res.Body, maxAnswer)
	}
	return res, err
}
