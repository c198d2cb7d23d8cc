-- Duplicates and topics: llm_dedup, llm_dedup_pairs and LLM_CLUSTER.
--
-- llm_dedup stands in FROM. It embeds the texts of a column, compares each with the most similar
-- ones, and adds to every row of the table the cluster of rows that are about the same thing.
-- LLM_CLUSTER finds topics in the texts of all rows, has each named, and says for each row which
-- topic it has.
--
-- Expect: tickets about the same trouble with the same cluster_id, of which one is canonical;
-- the pairs that were compared for that, and what was answered; then the topics of all tickets
-- with the number of tickets of each, and of the one without a text.

SELECT cluster_id, is_canonical, ticket_id, subject
FROM llm_dedup('data/support_tickets.csv', 'body', k := 1, threshold := 0.6,
               prompt := 'Are the messages {a} and {b} about the same problem?')
WHERE cluster_rows > 1
ORDER BY cluster_id, is_canonical DESC, ticket_id;

SELECT left(a, 40) AS one, left(b, 40) AS other, round(similarity, 2) AS similarity, same
FROM llm_dedup_pairs('data/support_tickets.csv', 'body', k := 1, threshold := 0.6,
                     prompt := 'Are the messages {a} and {b} about the same problem?')
ORDER BY similarity DESC
LIMIT 5;

SELECT topic, count(*) AS tickets
FROM (SELECT LLM_CLUSTER(body, k := 5, assign := 'nearest') AS topic
      FROM 'data/support_tickets.csv')
GROUP BY topic
ORDER BY tickets DESC, topic;
