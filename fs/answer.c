// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Requests answered later (answer.h). Owns the list of interrupted ones and the watch thread that
 * replies to them; knows nothing of files. Lock order: libfuse's request lock, then answers->lock;
 * so no libfuse function is called with answers->lock held.
 */
#include "answer.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

struct answers {
    /* Protects `interrupted`, `ending`, and refs, claimed, is_interrupted, deadline_ms and next of
     * every answer. */
    pthread_mutex_t lock;
    pthread_cond_t wake; /* on CLOCK_MONOTONIC */
    struct answer *interrupted;
    bool ending;
    pthread_t watch;
};

static long long now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/*
 * Takes the interrupted answers off the list that are due, claiming them, or that somebody else
 * claimed. *ret_next_ms is when the next one will be due, 0 for never.
 */
static struct answer *take_due_locked(struct answers *answers, long long *ret_next_ms)
{
    struct answer **link = &answers->interrupted, *due = NULL;
    long long now = now_ms();

    *ret_next_ms = 0;
    while (*link) {
        struct answer *answer = *link;
        if (!answer->claimed && answer->deadline_ms > now) {
            if (*ret_next_ms == 0 || answer->deadline_ms < *ret_next_ms)
                *ret_next_ms = answer->deadline_ms;
            link = &answer->next;
            continue;
        }
        *link = answer->next;
        answer->next = due;
        due = answer;
    }
    return due;
}

static void answer_due(struct answer *due)
{
    while (due) {
        struct answer *answer = due;
        due = answer->next;
        if (answer_claim(answer)) {
            fuse_reply_err(answer->req, EINTR);
            if (answer->interrupted)
                answer->interrupted(answer);
        }
        answer_unref(answer);
    }
}

static void wait_locked(struct answers *answers, long long until_ms)
{
    struct timespec until = {until_ms / 1000, until_ms % 1000 * 1000000};

    if (until_ms == 0)
        pthread_cond_wait(&answers->wake, &answers->lock);
    else
        pthread_cond_timedwait(&answers->wake, &answers->lock, &until);
}

static void *watch(void *opaque)
{
    struct answers *answers = opaque;
    long long next_ms;

    pthread_mutex_lock(&answers->lock);
    while (!answers->ending) {
        struct answer *due = take_due_locked(answers, &next_ms);
        if (due) {
            pthread_mutex_unlock(&answers->lock);
            answer_due(due);
            pthread_mutex_lock(&answers->lock);
        } else {
            wait_locked(answers, next_ms);
        }
    }
    pthread_mutex_unlock(&answers->lock);
    return NULL;
}

/* Signals are for the main thread alone: only there do they end libfuse's loop. */
static int start_watch(struct answers *answers)
{
    sigset_t all, before;
    int err;

    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    err = pthread_create(&answers->watch, NULL, watch, answers);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -err;
}

struct answers *answers_new(void)
{
    struct answers *answers = calloc(1, sizeof *answers);
    pthread_condattr_t attr;

    if (!answers)
        return NULL;
    pthread_mutex_init(&answers->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&answers->wake, &attr);
    pthread_condattr_destroy(&attr);
    if (start_watch(answers) < 0) {
        pthread_cond_destroy(&answers->wake);
        pthread_mutex_destroy(&answers->lock);
        free(answers);
        return NULL;
    }
    return answers;
}

void answers_free(struct answers *answers)
{
    if (!answers)
        return;
    pthread_mutex_lock(&answers->lock);
    answers->ending = true;
    pthread_cond_signal(&answers->wake);
    pthread_mutex_unlock(&answers->lock);
    pthread_join(answers->watch, NULL);
    /* What was claimed elsewhere may still stand on the list, with the reference that put it
     * there. */
    answer_due(answers->interrupted);
    pthread_cond_destroy(&answers->wake);
    pthread_mutex_destroy(&answers->lock);
    free(answers);
}

static void on_interrupt(fuse_req_t req, void *opaque)
{
    struct answer *answer = opaque;
    struct answers *answers = answer->answers;

    (void)req;
    pthread_mutex_lock(&answers->lock);
    if (!answer->claimed && !answer->is_interrupted) {
        answer->is_interrupted = true;
        answer->deadline_ms = now_ms() + answer->grace_ms;
        answer->refs++;
        answer->next = answers->interrupted;
        answers->interrupted = answer;
        pthread_cond_signal(&answers->wake);
    }
    pthread_mutex_unlock(&answers->lock);
}

void answer_init(struct answers *answers, struct answer *answer, fuse_req_t req, unsigned grace_ms,
                 void (*interrupted)(struct answer *), void (*release)(struct answer *))
{
    *answer = (struct answer){
        .req = req,
        .answers = answers,
        .grace_ms = grace_ms,
        .interrupted = interrupted,
        .release = release,
        .refs = 1,
    };
    if (req)
        fuse_req_interrupt_func(req, on_interrupt, answer);
}

bool answer_claim(struct answer *answer)
{
    bool mine;

    pthread_mutex_lock(&answer->answers->lock);
    mine = answer->req && !answer->claimed;
    answer->claimed = true;
    pthread_mutex_unlock(&answer->answers->lock);
    /* Waits for an interrupt that is being delivered; after it, none comes. */
    if (mine)
        fuse_req_interrupt_func(answer->req, NULL, NULL);
    return mine;
}

bool answer_is_claimed(struct answer *answer)
{
    bool claimed;

    pthread_mutex_lock(&answer->answers->lock);
    claimed = answer->claimed;
    pthread_mutex_unlock(&answer->answers->lock);
    return claimed;
}

void answer_ref(struct answer *answer)
{
    pthread_mutex_lock(&answer->answers->lock);
    answer->refs++;
    pthread_mutex_unlock(&answer->answers->lock);
}

void answer_unref(struct answer *answer)
{
    unsigned refs;

    pthread_mutex_lock(&answer->answers->lock);
    refs = --answer->refs;
    pthread_mutex_unlock(&answer->answers->lock);
    if (refs == 0 && answer->release)
        answer->release(answer);
}
