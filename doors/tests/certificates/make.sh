#!/usr/bin/env bash
# Makes the certificates of the tests, in this directory. They last a hundred years; the keys are public, so use them for nothing else.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
touch "$work/index.txt"
echo 01 > "$work/crlnumber"
cat > "$work/ca.cnf" <<CNF
[ca]
default_ca = own
[own]
database = $work/index.txt
new_certs_dir = $work
rand_serial = yes
crlnumber = $work/crlnumber
default_md = default
default_crl_days = 36500
policy = any
unique_subject = no
copy_extensions = copy
[any]
commonName = supplied
[leaf]
basicConstraints = CA:FALSE
CNF
begin=20200101000000Z end=21200101000000Z
authority() { # NAME
  openssl genpkey -algorithm ed25519 -out "$1.key"
  openssl req -x509 -key "$1.key" -subj "/CN=$1" -days 36500 -out "$1.pem" \
    -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign"
}
leaf() { # NAME, subjectAltName, algorithm, begin, end
  case $3 in
    ed25519) openssl genpkey -algorithm ed25519 -out "$1.key" ;;
    p256) openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key" ;;
    rsa) openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$1.key" ;;
  esac
  openssl req -new -key "$1.key" -subj "/CN=$1" -addext "subjectAltName=$2" -out "$work/$1.csr"
  openssl ca -batch -config "$work/ca.cnf" -cert authority.pem -keyfile authority.key -extensions leaf \
    -startdate "$4" -enddate "$5" -notext -in "$work/$1.csr" -out "$1.pem"
}
authority authority
authority stranger
leaf edge "DNS:localhost,DNS:edge.example.com,IP:127.0.0.1,IP:::1" ed25519 $begin $end
leaf wild "DNS:*.wild.example" p256 $begin $end
leaf rsa "DNS:rsa.example" rsa $begin $end
leaf expired "DNS:edge.example.com" ed25519 $begin 20210101000000Z
leaf early "DNS:edge.example.com" ed25519 21000101000000Z $end
leaf client "DNS:client.example" ed25519 $begin $end
leaf revoked "DNS:revoked.example" ed25519 $begin $end
openssl ca -batch -config "$work/ca.cnf" -cert authority.pem -keyfile authority.key -revoke revoked.pem
openssl ca -config "$work/ca.cnf" -cert authority.pem -keyfile authority.key -gencrl -out revoked.crl
openssl pkey -in edge.key -aes256 -passout pass:secret -out encrypted.key
rm authority.key stranger.key
