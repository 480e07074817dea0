package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	pb "cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// call makes one call, such as `Publisher/Publish`, by Google's own description of the service: JSON in, JSON out.
func call(addr, token, name, request string) error {
	service, name, _ := strings.Cut(name, "/")
	services := pb.File_google_pubsub_v1_pubsub_proto.Services()
	described := services.ByName(protoreflect.Name(service))
	if described == nil {
		return fmt.Errorf("there is no service %q", service)
	}
	method := described.Methods().ByName(protoreflect.Name(name))
	if method == nil {
		return fmt.Errorf("there is no method %q", name)
	}
	in, err := protoregistry.GlobalTypes.FindMessageByName(method.Input().FullName())
	if err != nil {
		return err
	}
	out, err := protoregistry.GlobalTypes.FindMessageByName(method.Output().FullName())
	if err != nil {
		return err
	}
	asked, answered := in.New().Interface(), out.New().Interface()
	if err := protojson.Unmarshal([]byte(request), asked); err != nil {
		return err
	}
	connection, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	if err := connection.Invoke(ctx, fmt.Sprintf("/%s/%s", described.FullName(), name), asked, answered); err != nil {
		return err
	}
	text, err := protojson.Marshal(answered)
	fmt.Println(string(text))
	return err
}
