
#[test]
fn a_copied_memory_forks_a_document_which_is_named_and_hurts_no_other() {
    let mut story = Story::new();
    let (who, space) = friends(&mut story, &["Alice", "Bob"]);
    let (alice, bob) = (who[0], who[1]);
    let (forked, other) = (story.document(alice, space), story.document(alice, space));
    for note in [forked, other] {
        story.edit(alice, note, |edit| Ok(edit.set("/n", 1)?));
    }
    story.agree();
    story.cut(&[alice], &[bob]);
    let copy = story.copy_memory(bob, "Bob's copy");
    story.cut(&[alice], &[copy]);
    story.world.expects_forks = true;
    let mut actors = Vec::new();
    for (n, twin) in [bob, copy].into_iter().enumerate() {
        story.edit(twin, forked, |edit| Ok(edit.set("/twin", n)?));
        actors.push(story.read(twin, forked, |view| view.history().last().map(|change| (change.actor, change.seq))));
    }
    assert_eq!(actors[0], actors[1], "the two write under the same number");
    story.saved(bob);
    story.saved(copy);
    story.mend();
    story.wait(120);
    assert!(story.world.stats.forks_named > 0, "somebody says so");
    // The document goes its two ways; everything else goes on.
    for (n, writer) in [alice, bob, copy].into_iter().enumerate() {
        story.edit(writer, other, |edit| Ok(edit.set(format!("/k{n}").as_str(), n)?));
        story.wait(60);
    }
    for reader in [alice, bob, copy] {
        assert_eq!(story.json(reader, other), json!({ "k0": 0, "k1": 1, "k2": 2, "n": 1 }));
        assert_eq!(story.read(reader, forked, |view| view.get("/n")), Some(json!(1)));
    }
    // What cannot be agreed on is tried again, less and less often, and costs no more than that.
    story.wait(600);
    let said = |story: &Story| {
        let processes = story.world.replicas.iter().flat_map(|replica| &replica.process);
        processes.map(|process| process.engine.counters().data_messages_out).sum::<u64>()
    };
    let before = said(&story);
    story.wait(600);
    let after = said(&story) - before;
    assert!(after <= 3 * 10 * 12, "{after} messages in ten minutes");
}
