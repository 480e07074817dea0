package main

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"strings"
	"time"
)

// signed checks tokens that service accounts sign themselves, by the public key in a PEM file.
func signed(file string) (func(token string) error, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("there is no PEM in " + file)
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, isRSA := parsed.(*rsa.PublicKey)
	if !isRSA {
		return nil, errors.New("there is no key of RSA in " + file)
	}
	return func(token string) error { return verify(token, key, time.Now()) }, nil
}

func verify(token string, key *rsa.PublicKey, now time.Time) error {
	end := strings.LastIndex(token, ".")
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return errors.New("the token has not three parts")
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return err
	}
	hash := sha256.Sum256([]byte(token[:end]))
	if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, hash[:], signature); err != nil {
		return err
	}
	var head struct{ Alg, Typ, Kid string }
	var claims struct {
		Iss, Sub, Aud string
		Iat, Exp      int64
	}
	for i, into := range []any{&head, &claims} {
		text, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			return err
		}
		if err := json.Unmarshal(text, into); err != nil {
			return err
		}
	}
	switch {
	case head.Alg != "RS256" || head.Typ != "JWT" || head.Kid == "":
		return errors.New("the head of the token is not that of a service account")
	case claims.Iss == "" || claims.Iss != claims.Sub:
		return errors.New("the token does not say whose it is")
	case claims.Aud != "https://pubsub.googleapis.com/":
		return errors.New("the token is for somebody else")
	case claims.Iat > now.Unix()+60 || claims.Exp <= now.Unix() || claims.Exp-claims.Iat > 3600:
		return errors.New("the token is not valid now")
	}
	return nil
}
