#!/bin/sh
# Whether there is a Java that Spark 4 runs on; says what is missing.
set -eu
java=java
[ -n "${JAVA_HOME:-}" ] && java=$JAVA_HOME/bin/java
if ! said=$("$java" -version 2>&1); then
  echo "there is no Java (Debian: apt-get install openjdk-17-jre-headless)"
  exit 1
fi
version=$(printf '%s\n' "$said" | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)
if [ "${version:-0}" -lt 17 ]; then
  echo "Java is version ${version:-unknown}, Spark 4 needs 17 or newer"
  exit 1
fi
