/* What tests need: checks, the real edge, and waiting for events. */
#ifndef RIG_H
#define RIG_H

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../include/voltlane.h"

#define CHECK(is_right)                                                                      \
  do {                                                                                       \
    if (!(is_right)) {                                                                       \
      fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #is_right, vl_last_error());    \
      abort();                                                                               \
    }                                                                                        \
  } while (0)

/* How long something that must come may take. */
#define PATIENCE_US 60000000

static inline uint64_t now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* The configuration of an edge that grants version 3 of the link. */
#define GRANTS "general.shards = 1\nmaster.protocol = \"auto\"\n"

typedef struct {
  pid_t process;
  char address[64];
  char directory[32];
} edge;

/* Starts the program that VOLTLANE names, in front of a backend. */
static inline edge edge_start(const char *backend, const char *config) {
  edge started;
  char log[65536];
  size_t length = 0;
  int output[2];
  const char *program = getenv("VOLTLANE");
  CHECK(program != NULL);
  strcpy(started.directory, "/tmp/voltlane-c-XXXXXX");
  CHECK(mkdtemp(started.directory) != NULL && pipe(output) == 0);
  char path[64];
  snprintf(path, sizeof path, "%s/connserver.toml", started.directory);
  FILE *file = fopen(path, "w");
  CHECK(file != NULL && fputs(config, file) >= 0 && fclose(file) == 0);
  started.process = fork();
  CHECK(started.process >= 0);
  if (started.process == 0) {
    if (chdir(started.directory) == 0 && dup2(output[1], 1) >= 0 && dup2(output[1], 2) >= 0) {
      close(output[0]);
      close(output[1]);
      execl(program, program, "--listen", "127.0.0.1:0", "--master", backend, (char *)NULL);
    }
    _exit(127);
  }
  close(output[1]);
  for (;;) {
    ssize_t read_now = read(output[0], log + length, sizeof log - 1 - length);
    if (read_now <= 0) fprintf(stderr, "the edge did not start:\n%.*s\n", (int)length, log);
    CHECK(read_now > 0);
    length += (size_t)read_now;
    log[length] = 0;
    char *found = strstr(log, "listening address=");
    if (found != NULL && strpbrk(found + 18, " \n") != NULL) {
      sscanf(found + 18, "%63[0-9.:]", started.address);
      break;
    }
  }
  /* What it says later goes nowhere, and must not fill the pipe. */
  if (fork() == 0) {
    while (read(output[0], log, sizeof log) > 0) {
    }
    _exit(0);
  }
  close(output[0]);
  return started;
}

static inline void edge_stop(edge *stopped) {
  char path[64];
  kill(stopped->process, SIGTERM);
  waitpid(stopped->process, NULL, 0);
  snprintf(path, sizeof path, "%s/connserver.toml", stopped->directory);
  unlink(path);
  rmdir(stopped->directory);
}

#endif
