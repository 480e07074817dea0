package main

import (
	"context"
	"strings"
	"sync"

	pb "cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// exact is the fake, and says of subscriptions with exactly-once delivery what the service says and the fake keeps to itself: which
// acknowledgements came too late and were passed over.
type exact struct {
	*pstest.GServer
	fake *pstest.Server
	mu   sync.Mutex
}

func (e *exact) Acknowledge(ctx context.Context, request *pb.AcknowledgeRequest) (*emptypb.Empty, error) {
	// One after the other, so that the fake's count of a message grows by nobody else's.
	e.mu.Lock()
	defer e.mu.Unlock()
	found, err := e.GetSubscription(ctx, &pb.GetSubscriptionRequest{Subscription: request.Subscription})
	if err != nil || !found.EnableExactlyOnceDelivery {
		return e.GServer.Acknowledge(ctx, request)
	}
	invalid := map[string]string{}
	for _, id := range request.AckIds {
		before := e.acks(id)
		one := &pb.AcknowledgeRequest{Subscription: request.Subscription, AckIds: []string{id}}
		if _, err := e.GServer.Acknowledge(ctx, one); err != nil {
			return nil, err
		}
		if e.acks(id) == before {
			invalid[id] = "PERMANENT_FAILURE_INVALID_ACK_ID"
		}
	}
	if len(invalid) == 0 {
		return &emptypb.Empty{}, nil
	}
	info := &errdetails.ErrorInfo{
		Reason:   "EXACTLY_ONCE_ACKID_FAILURE",
		Domain:   "pubsub.googleapis.com",
		Metadata: invalid,
	}
	said, err := status.New(codes.FailedPrecondition, "some acknowledgements came too late").WithDetails(info)
	if err != nil {
		return nil, err
	}
	return nil, said.Err()
}

// acks says how often the message of a delivery was acknowledged.
func (e *exact) acks(ackID string) int {
	end := strings.LastIndex(ackID, ":")
	if end < 0 {
		return 0
	}
	message := e.fake.Message(ackID[:end])
	if message == nil {
		return 0
	}
	return message.Acks
}
